"""How much of a Jacobian to hold at a time, and what a backward pass saves."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import shapes_of, take
from geomfeat.models.streamed_inputs import leaves_of

OPERATIONS = 8  # tensors saved for each that a module returns, where they cannot be counted
BUDGET = 2**30  # bytes of Jacobian entries held at a time, unless the caller says otherwise


def saved_bytes(f: Functional, inputs: Any) -> tuple[int, int]:
    """Bytes that one sample's backward pass saves: (all activations, the largest one), without the parameters.

    Measured, not guessed: the tensors that autograd saves during one forward pass of one sample. Once for each network
    and shape of a sample, since every product with a kernel asks for it.
    """
    one = take(inputs, slice(0, 1))
    key = ("saved bytes", shapes_of(one))
    if key not in f.known:
        f.known[key] = _measured(f, one)
    return f.known[key]


def _measured(f: Functional, one: Any) -> tuple[int, int]:
    parameters = {_place(t) for t in (*f.theta.values(), *f.fixed.values())}
    total, largest, seen = 0, 0, set()
    saved: list[Tensor] = []

    def pack(t: Tensor) -> int:
        nonlocal total, largest
        key = t.untyped_storage().data_ptr() if t.layout is torch.strided else id(t)
        if key not in seen and _place(t) not in parameters:
            seen.add(key)
            size = (t.numel() if t.layout is torch.strided else t._nnz()) * t.element_size()
            total += size
            largest = max(largest, size)
        saved.append(t)
        return len(saved) - 1

    theta = {k: v.detach().requires_grad_() for k, v in f.theta.items()}
    # The graph holds places in a list, not the tensors: a tensor that its own graph holds (the output of tanh) would
    # never be freed.
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, saved.__getitem__):
            f(theta, one)
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        # torch.func inside the model's own forward pass, as for the gradient of an energy, refuses these hooks.
        return _by_modules(f, one)
    saved.clear()
    return total, largest


def _by_modules(f: Functional, one: Any) -> tuple[int, int]:
    """An estimate from what the modules return: so many times that for the operations between and inside them."""
    sizes = [64]

    def see(_module: nn.Module, _args: Any, output: Any) -> None:
        sizes.extend(t.numel() * t.element_size() for _, t in leaves_of(output))

    with torch.no_grad(), ExitStack() as stack:
        for module in f.model.modules():
            stack.callback(module.register_forward_hook(see).remove)
        f(f.theta, one)
    return OPERATIONS * sum(sizes), OPERATIONS * max(sizes)


def _place(t: Tensor) -> int:
    """The identity of a tensor: the address of its values, or of the object if it is sparse and holds several."""
    return t.data_ptr() if t.layout is torch.strided else id(t)
