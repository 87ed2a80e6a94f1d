"""The gates of a network: what goes into its ReLU-like functions, whether they are modules or plain calls.

A gate is every call of a function of the ReLU family. Calls are seen where torch dispatches them, so `nn.ReLU`,
`F.relu`, `torch.relu`, in-place forms and those inside transformer layers and ReLU-RNNs are all met, in call order,
with their true input (after normalisation, after a residual sum).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from geomfeat.activations import module_name
from geomfeat.location.padding import packed_lengths, valid_steps
from geomfeat.models.forward_passes.watched_operations import WatchedOperations
from geomfeat.models.functional import Functional
from geomfeat.models.readouts.token_masks import valid_tokens

_ATEN = torch.ops.aten
# Functions that are (nearly) zero, or of another slope, below zero and (nearly) the identity above it.
_FAMILY = {
    getattr(_ATEN, name)
    for base in ("relu", "leaky_relu", "rrelu_with_noise", "elu", "celu", "gelu", "silu", "hardswish", "mish")
    for name in (base, f"{base}_")
    if hasattr(_ATEN, name)
} | {_ATEN._prelu_kernel, _ATEN.threshold, _ATEN.threshold_}
_CLIPPED = {_ATEN.hardtanh, _ATEN.hardtanh_}  # ReLU6 is a hardtanh from 0 to 6


class _Gates(WatchedOperations):
    """Collects (layer, input > 0) of every gate; `layer` is set from outside to the last layer that has fired."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = ""
        self.open: list[tuple[str, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if is_gate(func, args):
            self.open.append((self.layer, args[0] > 0))
        return func(*args, **(kwargs or {}))


def is_gate(func: Any, args: Any) -> bool:
    """Whether a dispatched call is a function of the ReLU family."""
    packet = getattr(func, "overloadpacket", func)
    if packet in _CLIPPED:
        return len(args) > 1 and args[1] == 0
    if packet in (_ATEN.threshold, _ATEN.threshold_):
        return len(args) > 2 and args[1] == 0 and args[2] == 0
    return packet in _FAMILY


def open_gates(f: Functional, inputs: Any, layers: tuple[str, ...]) -> tuple[list[tuple[str, Tensor]], Tensor | None]:
    """(layer, which units are open) for every gate of a forward pass, in call order; and what is no padding.

    The layer of a gate is that of `layers` which fired last before it, "" before the first of them. Padding (n, tokens)
    is known from masks among the inputs, or from the lengths of packed sequences in the network; None where there is
    none.
    """
    gates = _Gates()
    modules = dict(f.model.named_modules())
    with ExitStack() as stack, torch.no_grad():
        for layer in layers:

            def fired(*_: Any, layer: str = layer) -> None:
                gates.layer = layer

            stack.callback(modules[module_name(layer)].register_forward_hook(fired).remove)
        lengths = stack.enter_context(packed_lengths(f.model))
        stack.enter_context(gates)
        f(f.theta, inputs)
    valid = valid_tokens(inputs)
    if valid is None and lengths:
        valid = valid_steps(inputs, lengths[-1])
    return gates.open, None if valid is None or bool(valid.all()) else valid
