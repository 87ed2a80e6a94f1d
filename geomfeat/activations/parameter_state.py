"""Parameters are restored even if a forward pass writes into them, as an Embedding with max_norm does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.forward_passes.watched_operations import WatchedOperations


@dataclass(frozen=True, eq=False)
class _Held:
    """A parameter where it hangs, and its memory (not a copy of it) before any forward pass."""

    module: nn.Module
    name: str
    parameter: nn.Parameter
    memory: Tensor
    version: int | None


class _CopyOnWrite(WatchedOperations):
    """Copies a parameter before the first operation that writes into its memory, under whatever name or view."""

    def __init__(self, held: list[_Held]) -> None:
        super().__init__()
        self.copies: dict[int, Tensor] = {}
        self._by_storage: dict[int, list[_Held]] = {}
        for one in held:
            self._by_storage.setdefault(_storage(one.memory), []).append(one)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for i, argument in enumerate(func._schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self._before(args[i] if i < len(args) else kwargs.get(argument.name))
        return func(*args, **kwargs)

    def _before(self, written: Any) -> None:
        for tensor in written if isinstance(written, tuple | list) else [written]:
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                for one in self._by_storage.get(_storage(tensor), []):
                    self.copies.setdefault(id(one.parameter), one.memory.clone())


def _has_values(parameter: nn.Parameter) -> bool:
    empty = isinstance(parameter, nn.parameter.UninitializedParameter) or parameter.is_meta
    return parameter.layout is torch.strided and not empty


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def same_parameters(model: nn.Module) -> Iterator[None]:
    """Puts back every parameter: the same object in the same place, with the same memory and values.

    Nothing is copied but what the forward pass writes into. The first pass inside is watched for that, operation by
    operation; the later ones are not, so that they cost nothing.

    Raises BadInput, after the block, where a later pass was the first to write into a parameter.
    """
    held = [
        _Held(module, name, p, p.data, None if p.is_inference() else p._version)
        for module in model.modules()
        for name, p in module._parameters.items()
        if p is not None and _has_values(p)
    ]
    watch = _CopyOnWrite(held)
    try:
        with _first_pass(model, watch):
            yield
    finally:
        with torch.no_grad():
            for one in held:
                one.module._parameters[one.name] = one.parameter
                if not one.parameter.is_set_to(one.memory):
                    one.parameter.data = one.memory
                if id(one.parameter) in watch.copies:
                    one.memory.copy_(watch.copies[id(one.parameter)])
    for one in held:
        if one.version not in (None, one.parameter._version) and id(one.parameter) not in watch.copies:
            raise BadInput(
                f"the forward pass of some batches writes into the parameter {one.name!r} of a "
                f"{type(one.module).__name__}, whose values before are lost: load the weights again, and pass "
                "copy.deepcopy(model)"
            )


@contextmanager
def _first_pass(model: nn.Module, mode: WatchedOperations) -> Iterator[None]:
    """The first forward pass of the model inside the block runs under `mode`."""
    passes, stack = 0, ExitStack()

    def begin(*_: Any) -> None:
        nonlocal passes
        passes += 1
        if passes == 1:
            stack.enter_context(mode)

    with ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(begin).remove)
        # Also called where the forward pass raises.
        hooks.callback(model.register_forward_hook(lambda *_: stack.close(), always_call=True).remove)
        hooks.callback(stack.close)
        yield
