"""A whole copy of a network whose weights are spread over processes, gathered a part at a time (FSDP)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.distributed import is_first
from geomfeat.monitoring.distributed import MIXED_IN, WRAPPED, is_a

# Attributes of a wrapper that hold what is wrapped.
INSIDE = {WRAPPED: "_fsdp_wrapped_module", "CheckpointWrapper": "_checkpoint_wrapped_module"}
# Where `fully_shard` keeps what it knows of a module.
STATE = "__composable_api_state_key"


class WholeCopy:
    """The network without wrappers, on the first process, and its weights while they are wanted.

    Attributes:
        network: the copy; None on the other processes. trained: what it is a copy of.

    All processes must make it, and call `fill`, at the same time: each gives its part. Beside the copy, memory is taken
    for one wrapped module, or one parameter, at a time.
    """

    def __init__(self, model: nn.Module) -> None:
        self.trained = model
        self.network: nn.Module | None = None
        self._copies: dict[int, nn.Module] = {}
        values: dict[int, dict[str, nn.Parameter]] = {id(module): {} for module in model.modules()}
        gather(model, lambda module, name, p: values[id(module)].__setitem__(name, p))
        if is_first():
            self._copies = _copies(model, values)
            self.network = self._copies[id(model)]

    def fill(self) -> None:
        """Give the copy the present weights and buffers."""
        gather(self.trained, self._place)
        for module in self.trained.modules() if self.network is not None else ():
            own = self._copies[id(module)]._buffers
            own |= {name: b.detach().clone() for name, b in _inside(module)._buffers.items() if b is not None}

    def release(self) -> None:
        """Give up the memory of the copy's weights."""
        for p in self.network.parameters() if self.network is not None else ():
            p.data = torch.empty(0, dtype=p.dtype, device=p.device)

    def parameters_of(self) -> dict[int, nn.Parameter]:
        """id of a parameter that is trained -> the copy's."""
        pairs = ((m._parameters, self._copies[id(m)]._parameters) for m in self.trained.modules() if _inside(m) is m)
        return {
            id(p): twin
            for trained, own in pairs
            for name, p in trained.items()
            if p is not None and (twin := own.get(name)) is not None
        }

    def _place(self, module: nn.Module, name: str, value: nn.Parameter) -> None:
        p = self._copies[id(module)]._parameters[name]
        assert p is not None
        p.data = value.data


def gather(model: nn.Module, keep: Callable[[nn.Module, str, nn.Parameter], Any]) -> None:
    """On the first process, call keep(module, name, p) for copies of all parameters; all processes must take part.

    A parameter of several modules has one copy.
    """
    for module in model.modules():
        if is_a(module, MIXED_IN):
            module.reshard()  # type: ignore[operator]  # after a forward pass alone, some are left whole
    for wrapper, modules in _parts(model):
        known: dict[int, nn.Parameter] = {}
        with _unsharded(wrapper):
            for module in modules:
                for name, p in module._parameters.items():
                    if p is None:
                        continue
                    if id(p) not in known:
                        value = whole(p.detach())
                        known[id(p)] = nn.Parameter(value.clone() if is_first() else value, p.requires_grad)
                    if is_first():
                        keep(module, name, known[id(p)])


def whole(value: Tensor) -> Tensor:
    """All of a tensor that may be spread over processes, which must all ask for it."""
    if not hasattr(value, "full_tensor"):
        return value
    mesh: Any = value.device_mesh  # type: ignore[attr-defined]
    # What is kept in another memory between steps goes where its processes can exchange it.
    there = value if value.device.type == mesh.device_type else value.to(mesh.device_type)
    return there.full_tensor()  # type: ignore[attr-defined]


def _parts(model: nn.Module) -> list[tuple[Any, list[nn.Module]]]:
    """(wrapper, modules whose weights it spreads); None for the modules in no wrapper. Outer ones come first."""
    parts: dict[int, tuple[Any, list[nn.Module]]] = {}
    seen: set[int] = set()

    def walk(module: nn.Module, wrapper: nn.Module | None) -> None:
        if id(module) in seen:
            return
        seen.add(id(module))
        wrapper = module if is_a(module, WRAPPED) else wrapper
        parts.setdefault(id(wrapper), (wrapper, []))[1].append(module)
        for child in module.children():
            walk(child, wrapper)

    walk(model, None)
    return list(parts.values())


def _unsharded(wrapper: Any) -> AbstractContextManager[Any]:
    if wrapper is None:
        return nullcontext()
    return type(wrapper).summon_full_params(wrapper, recurse=False, writeback=False, rank0_only=True)


def _copies(model: nn.Module, values: Mapping[int, Mapping[str, nn.Parameter]]) -> dict[int, nn.Module]:
    """id of a module -> its copy, which for a wrapper is that of what it wraps; all that FSDP added is left out."""
    bare = {id(module): module for module in model.modules() if _inside(module) is module}
    kinds = {key: _own_class(module) for key, module in bare.items()}
    found = {key: kind.__new__(kind) for key, kind in kinds.items()}
    found |= {id(module): found[id(_inside(module))] for module in model.modules()}
    memo: dict[int, Any] = dict(found)
    for key, module in bare.items():
        memo |= {id(p): values[key][name] for name, p in module._parameters.items() if name in values[key]}
    for key, module in bare.items():
        own = values[key]
        attributes = {n: v for n, v in vars(module).items() if n not in own and n != "_parameters" and STATE not in n}
        vars(found[key]).update(copy.deepcopy(dict(_without_hooks(attributes)), memo))
        absent = {name: None for name, p in module._parameters.items() if p is None}
        vars(found[key])["_parameters"] = {**absent, **own}
    return found


def _inside(module: nn.Module) -> nn.Module:
    """What is wrapped, through all wrappers."""
    for kind, attribute in INSIDE.items():
        if is_a(module, kind):
            return _inside(getattr(module, attribute))
    return module


def _own_class(module: nn.Module) -> type[nn.Module]:
    """A module's class before `fully_shard`, which puts one with a second base in its place."""
    order = type(module).__mro__
    return order[2] if len(order) > 2 and order[1].__name__ == MIXED_IN else type(module)


def _without_hooks(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A module's attributes, without the hooks of torch.distributed."""
    for name, value in attributes.items():
        if name.endswith("_hooks") and isinstance(value, dict):
            yield name, type(value)((key, hook) for key, hook in value.items() if not _is_distributed(hook))
        else:
            yield name, value


def _is_distributed(hook: Any) -> bool:
    hook = getattr(hook, "hook", hook)
    hook = hook.func if isinstance(hook, partial) else hook
    return str(getattr(hook, "__module__", "")).startswith("torch.distributed")
