"""A deep copy of a module, also of one that holds tensors with a gradient history."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def deep_copy(model: nn.Module) -> nn.Module:
    """A deep copy. Tensors that torch cannot copy deeply are copied as plain values: computed ones, and sparse ones.

    torch.nn.utils.weight_norm and spectral_norm keep the weight that they compute, graph networks a sparse matrix.

    >>> net = nn.Linear(2, 1)
    >>> net.doubled = 2 * net.weight
    >>> deep_copy(net).doubled.requires_grad
    False
    """
    memo = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in _tensors({k: v for k, v in vars(module).items() if k != "_modules"})
        if not value.is_leaf or (value.layout is not torch.strided and not isinstance(value, nn.Parameter))
    }
    return copy.deepcopy(model, memo)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a module's attributes, also in dictionaries, lists and tuples of them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        return
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
