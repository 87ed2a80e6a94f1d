"""A network of a folder while it runs: with all weights, or those of one block, read before its call, then dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.models.sources.lazy_weights import LazyWeights, in_precision


@contextmanager
def with_weights(weights: LazyWeights, device: torch.device, *, by_block: bool) -> Iterator[nn.Module]:
    """The network of a folder with its weights; `by_block`: each block only while it is called.

    Blocks are the members of a ModuleList, and the modules beside such lists (embeddings, norms, heads). What a module
    that holds blocks has itself stays in memory. Afterwards no parameter has any.
    """
    network = weights.network
    with ExitStack() as stack, torch.no_grad():
        for prefix, module, is_block in list(_units(network)) if by_block else [("", network, True)]:
            unit = _Unit(weights, prefix, dict(module.named_modules()) if is_block else {"": module}, device)
            stack.callback(unit.drop)
            if not (by_block and is_block):
                unit.load()
                continue
            stack.callback(module.register_forward_pre_hook(unit.load, prepend=True).remove)
            stack.callback(module.register_forward_hook(unit.drop, always_call=True).remove)
        for module in network.modules():  # tables that are not saved; `Module.to` would refuse empty parameters
            module._buffers |= {name: b.to(device) for name, b in module._buffers.items() if b is not None}
        yield network


class _Unit:
    """What is read and dropped together: a block with all in it, or the own tensors of a module that holds blocks."""

    def __init__(self, weights: LazyWeights, prefix: str, inside: dict[str, nn.Module], device: torch.device) -> None:
        self._weights, self._device = weights, device
        # Name in the network -> who holds it, and under which name there.
        self._held: dict[str, tuple[dict[str, Any], str, Any]] = {}
        for path, part in inside.items():
            for values in (part._parameters, part._buffers):
                for own, value in values.items():
                    name = ".".join(filter(None, (prefix, path, own)))
                    if value is not None and name in weights.stored:
                        self._held[name] = (values, own, value)

    def load(self, *_: Any) -> None:
        read = in_precision(self._weights.read(self._held, self._device), self._weights.dtype)
        for name, (values, own, empty) in self._held.items():
            values[own] = _like(empty, read[name])

    def drop(self, *_: Any) -> None:
        for values, own, empty in self._held.values():
            values[own] = empty


def _like(empty: Any, value: Tensor) -> Tensor:
    return nn.Parameter(value, requires_grad=False) if isinstance(empty, nn.Parameter) else value


def _units(module: nn.Module, prefix: str = "", listed: bool = False) -> Iterator[tuple[str, nn.Module, bool]]:
    """(name, module, whether it is a block) of the blocks, and of the modules that hold them."""
    is_block = listed or not any(isinstance(inner, nn.ModuleList) for inner in module.modules())
    yield prefix, module, is_block
    for name, child in [] if is_block else module.named_children():
        yield from _units(child, f"{prefix}.{name}".lstrip("."), isinstance(module, nn.ModuleList))
