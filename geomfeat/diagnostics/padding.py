"""Positions of a sequence that are padding, by the mask that the network itself is given: they are no features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.activations import recording
from geomfeat.models.functional import Functional, take
from geomfeat.models.lazy_inputs import leaves_of
from geomfeat.types import Representation


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


def mean_of_samples(values: Tensor, n: int, valid: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Means (n,) of each sample's valid entries and how many these are (n,); None for a tensor without rows of samples.

    Padding, where `valid` (n, tokens) is given, is left out of tensors of three or more dimensions, of which one after
    the samples' are tokens (n, tokens, d), (n, channels, tokens), of those with time first (tokens, n, d), and of those
    that put all tokens of all samples into rows (n tokens, d). Sequences may be cut to the longest of the samples. A
    sample without a valid entry has mean 0 of 0 entries.

    >>> gates = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]]])
    >>> [part.tolist() for part in mean_of_samples(gates, 2, torch.tensor([[True, False], [True, True]]))]
    [[1.0, 0.5], [1.0, 2.0]]
    """
    by_token = None if valid is None else _by_token(values, valid)
    if by_token is not None and valid is not None:
        kept = valid[:, : by_token.shape[1]].to(values.device)
        counts = (kept.sum(1) * by_token.shape[2]).to(values.dtype)
        return torch.where(kept[:, :, None], by_token, 0.0).sum((1, 2)) / counts.clamp_min(1), counts
    if values.ndim == 0 or len(values) != n:
        return None
    rows = values.reshape(n, -1)
    return rows.mean(1), rows.new_full((n,), float(rows.shape[1]))


def _by_token(values: Tensor, valid: Tensor) -> Tensor | None:
    """Values as (n, tokens, rest), where they lie over the tokens of `valid`, or those up to the last valid one."""
    n, shape = len(valid), tuple(values.shape)
    last = 1 + int(valid.any(0).nonzero().max()) if bool(valid.any()) else valid.shape[1]
    for tokens in dict.fromkeys((valid.shape[1], last)):
        if len(shape) == 2 and shape[0] == n * tokens:
            return values.reshape(n, tokens, -1)
        if len(shape) > 2 and shape[:2] == (tokens, n) != (n, tokens):
            return values.transpose(0, 1).reshape(n, tokens, -1)
        axes = [axis for axis in range(1, len(shape)) if shape[axis] == tokens]
        if len(shape) > 2 and shape[0] == n and axes:
            return values.movedim(axes[0], 1).reshape(n, tokens, -1)
    return None


def valid_steps(inputs: Any, lengths: Tensor) -> Tensor:
    """(n, tokens), true up to the length (n,) of each sample, over as many tokens as a part of the inputs has.

    >>> valid_steps((torch.zeros(2, 3, 5), torch.tensor([1, 2])), torch.tensor([1, 2])).int().tolist()
    [[1, 0, 0], [1, 1, 0]]
    """
    longest, n = int(lengths.max()), len(lengths)
    shapes = [part.shape for _, part in leaves_of(inputs) if part.ndim > 1 and len(part) == n]
    tokens = next((shape[1] for shape in shapes if shape[1] >= longest), longest)
    return torch.arange(tokens, device=lengths.device) < lengths[:, None]


def valid_tokens(inputs: Any) -> Tensor | None:
    """(n, tokens), true for valid tokens, from the masks that `extract` knows; None where there are none."""
    if not isinstance(inputs, Mapping):
        return None
    padding = inputs.get("src_key_padding_mask")
    mask = inputs.get("attention_mask")
    if isinstance(padding, Tensor) and padding.dtype == torch.bool:
        mask = ~padding
    return mask != 0 if isinstance(mask, Tensor) and mask.ndim == 2 else None


def without_padding(rep: Representation, valid: Tensor | None) -> Representation:
    """A layer's flattened features with zeros for padding, where its features lie over the tokens of `valid`."""
    shape = tuple(rep.meta.get("shape") or ())
    over_tokens = valid is not None and len(shape) > 1 and (rep.n, shape[0]) == tuple(valid.shape)
    if valid is None or not over_tokens or rep.meta.get("reduce") != "flatten" or rep.d != math.prod(shape):
        return rep
    return rep.with_(x=cleared(rep.x, valid))


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
