"""What autograd saves during a forward pass of one sample, counted without keeping it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from geomfeat.activations.layer_selection import repeated_units
from geomfeat.models.functional import Functional
from geomfeat.models.streamed_inputs import leaves_of

OPERATIONS = 8  # tensors saved for each that a module returns, where they cannot be counted


@dataclass
class Saved:
    """Bytes that autograd saves: all, the largest tensor, those of each block, and what enters the blocks."""

    all: int = 0
    largest: int = 0
    blocks: dict[str, int] = field(default_factory=dict)
    entering: int = 0

    @property
    def with_recomputation(self) -> int:
        """Those outside of the blocks, what enters them, and the largest block."""
        return self.all - sum(self.blocks.values()) + self.entering + max(self.blocks.values(), default=0)


def saved_by(f: Functional, one: Any) -> Saved:
    """What autograd saves for one sample, without the parameters."""
    try:
        return _counted(f, one, keep=False)
    except _AskedFor:
        # A network that takes a gradient in its own forward pass, as of an energy.
        return _counted(f, one, keep=True)
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        # torch.func inside the model's own forward pass refuses these hooks.
        return _by_modules(f, one)


class _AskedFor(RuntimeError):
    """A saved tensor is wanted during the forward pass."""


def _counted(f: Functional, one: Any, keep: bool) -> Saved:
    parameters = {_place(t) for t in (*f.theta.values(), *f.fixed.values())}
    found, inside = Saved(), [""]
    seen: dict[int, Any] = {}
    kept: list[Tensor] = []

    def pack(t: Tensor) -> int:
        size = _new_bytes(t, seen)
        if size and _place(t) not in parameters:
            found.all += size
            found.largest = max(found.largest, size)
            if inside[-1]:
                found.blocks[inside[-1]] = found.blocks.get(inside[-1], 0) + size
        if keep:
            kept.append(t)
        # The graph holds places in a list, not the tensors: a tensor that its own graph holds (the output of tanh)
        # would never be freed.
        return len(kept) - 1

    def unpack(place: int) -> Tensor:
        if not keep:
            raise _AskedFor
        return kept[place]

    def enter(name: str) -> Callable[..., None]:
        def see(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            sizes = (t.numel() * t.element_size() for _, t in leaves_of((args, kwargs)) if t.requires_grad)
            found.entering += sum(sizes)
            inside.append(name)

        return see

    def leave(*_: Any) -> None:
        inside.pop()

    theta = {k: v.detach().requires_grad_() for k, v in f.theta.items()}
    with ExitStack() as stack, torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        for name in repeated_units(f.model):
            block = f.model.get_submodule(name)
            stack.callback(block.register_forward_pre_hook(enter(name), with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(leave, always_call=True).remove)
        f(theta, one)
    return found


def _new_bytes(t: Tensor, seen: dict[int, Any]) -> int:
    """Bytes of a saved tensor; 0 if its memory was counted before."""
    if t.layout is not torch.strided:
        seen[id(t)], new = t, id(t) not in seen
        return t._nnz() * t.element_size() if new else 0
    storage = t.untyped_storage()
    if storage._cdata in seen:
        return 0
    # A weak reference, which frees the numbers but keeps their place from being given to another storage.
    seen[storage._cdata] = StorageWeakRef(storage)
    return t.numel() * t.element_size()


def _by_modules(f: Functional, one: Any) -> Saved:
    """An estimate from what the modules return: so many times that for the operations between and inside them."""
    sizes = [64]

    def see(_module: nn.Module, _args: Any, output: Any) -> None:
        sizes.extend(t.numel() * t.element_size() for _, t in leaves_of(output))

    with torch.no_grad(), ExitStack() as stack:
        for module in f.model.modules():
            stack.callback(module.register_forward_hook(see).remove)
        f(f.theta, one)
    return Saved(OPERATIONS * sum(sizes), OPERATIONS * max(sizes))


def _place(t: Tensor) -> int:
    """The identity of a tensor: the address of its values, or of the object if it is sparse and holds several."""
    return t.data_ptr() if t.layout is torch.strided else id(t)
