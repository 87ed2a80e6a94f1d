"""Positions of a sequence that are padding, by the mask that the network itself is given: they are no features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.activations import recording
from geomfeat.models.functional import Functional, take


@dataclass(frozen=True, eq=False)
class Padding:
    """valid: (n, tokens), true for tokens that are none; layers: those whose features lie over these tokens."""

    valid: Tensor
    layers: frozenset[str]

    def cleared(self, layer: str, features: Tensor, rows: Tensor | None = None) -> Tensor:
        """Flattened features (n, d) of a layer, or of its samples `rows`, with zeros for padding."""
        if layer not in self.layers:
            return features
        return cleared(features, self.valid if rows is None else self.valid[rows.to(self.valid.device)])


def cleared(features: Tensor, valid: Tensor) -> Tensor:
    """Flattened features (n, tokens * d) with zeros where `valid` (n, tokens) is false.

    >>> cleared(torch.ones(1, 4), torch.tensor([[True, False]])).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """
    by_token = features.reshape(*valid.shape, -1)
    # Not a product: padding may hold NaN.
    return torch.where(valid.to(features.device)[..., None], by_token, 0.0).reshape(features.shape)


def valid_tokens(inputs: Any) -> Tensor | None:
    """(n, tokens), true for valid tokens, from the masks that `extract` knows; None where there are none."""
    if not isinstance(inputs, Mapping):
        return None
    padding = inputs.get("src_key_padding_mask")
    padded = isinstance(padding, Tensor) and padding.dtype == torch.bool
    mask = ~padding if padded else inputs.get("attention_mask")
    return mask != 0 if isinstance(mask, Tensor) and mask.ndim == 2 else None


def padding_of(f: Functional, inputs: Any, layers: Sequence[str]) -> Padding | None:
    """The padding of the inputs, and which layers return (n, tokens, ...); None without any padding."""
    valid = valid_tokens(inputs)
    if valid is None or bool(valid.all()):
        return None
    one = f.inputs(take(inputs, slice(0, 1)))
    with torch.no_grad(), recording(f.model, list(layers)) as recorded:
        f(f.theta, one)
    tokens = valid.shape[1]
    over_tokens = {name for name, value in recorded.items() if value.ndim > 2 and value.shape[:2] == (1, tokens)}
    return Padding(valid, frozenset(over_tokens))
