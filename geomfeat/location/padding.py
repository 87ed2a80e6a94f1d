"""Positions of a sequence that are padding, by a mask of the inputs or by packed sequences: they are no features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from geomfeat.activations import recording
from geomfeat.activations.checks.sequence_lengths import lengths_of
from geomfeat.activations.hooks import padded
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import as_inputs, batches, n_samples, take
from geomfeat.models.readouts.token_masks import valid_tokens
from geomfeat.models.streamed_inputs import LazyInputs, leaves_of
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
    for tokens in _numbers_of_tokens(valid):
        if len(shape) == 2 and shape[0] == n * tokens:
            return values.reshape(n, tokens, -1)
        if len(shape) > 2 and shape[:2] == (tokens, n) != (n, tokens):
            return values.transpose(0, 1).reshape(n, tokens, -1)
        axes = [axis for axis in range(1, len(shape)) if shape[axis] == tokens]
        if len(shape) > 2 and shape[0] == n and axes:
            return values.movedim(axes[0], 1).reshape(n, tokens, -1)
    return None


def _numbers_of_tokens(valid: Tensor) -> list[int]:
    """All tokens, or those up to the last valid one."""
    last = 1 + int(valid.any(0).nonzero().max()) if bool(valid.any()) else valid.shape[1]
    return list(dict.fromkeys((valid.shape[1], last)))


def fitted(valid: Tensor | None, tokens: int) -> Tensor | None:
    """`valid` (n, tokens) for so many tokens: all, or those up to the last valid one; None for any other number.

    >>> fitted(torch.tensor([[True, False, False], [True, True, False]]), 2).tolist()
    [[True, False], [True, True]]
    """
    return None if valid is None or tokens not in _numbers_of_tokens(valid) else valid[:, :tokens]


def valid_steps(inputs: Any, lengths: Tensor) -> Tensor:
    """(n, tokens), true up to the length (n,) of each sample, over as many tokens as a part of the inputs has.

    >>> valid_steps((torch.zeros(2, 3, 5), torch.tensor([1, 2])), torch.tensor([1, 2])).int().tolist()
    [[1, 0, 0], [1, 1, 0]]
    """
    longest, n = int(lengths.max()), len(lengths)
    shapes = [part.shape for _, part in leaves_of(inputs) if part.ndim > 1 and len(part) == n]
    tokens = next((shape[1] for shape in shapes if shape[1] >= longest), longest)
    return torch.arange(tokens, device=lengths.device) < lengths[:, None]


@contextmanager
def packed_lengths(model: nn.Module) -> Iterator[list[Tensor]]:
    """Within, the lengths (n,) of the samples in every packed sequence that a module returns."""
    found: list[Tensor] = []

    def see(_module: nn.Module, _args: Any, out: Any) -> None:
        for part in out if isinstance(out, tuple) and not isinstance(out, PackedSequence) else (out,):
            if isinstance(part, PackedSequence):
                found.append(padded(part)[1])

    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_hook(see).remove)
        yield found


def may_pack(model: nn.Module) -> bool:
    """Whether the network has layers that take packed sequences."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


def valid_positions(f: Functional, inputs: Any) -> Tensor | None:
    """(n, tokens), true for what is no padding, by masks among the inputs or by packed sequences in the network.

    None where there is neither. Only recurrent networks are run, where samples differ in what may be a length.
    """
    inputs = as_inputs(inputs)
    valid = valid_tokens(inputs)
    if valid is not None or not may_pack(f.model) or isinstance(inputs, LazyInputs) or not lengths_of(inputs):
        return valid
    lengths = []
    with torch.no_grad(), packed_lengths(f.model) as found:
        for _, part in batches(f.inputs(inputs), 256):
            found.clear()
            f(f.theta, part)
            if not found or len(found[-1]) != n_samples(part):
                return None
            lengths.append(found[-1])
    return valid_steps(inputs, torch.cat(lengths))


def without_padding(rep: Representation, valid: Tensor | None) -> Representation:
    """A layer's flattened features with zeros for padding, where its features lie over the tokens of `valid`."""
    shape = tuple(rep.meta.get("shape") or ())
    if valid is None or len(shape) < 2 or len(valid) != rep.n or rep.meta.get("reduce") != "flatten":
        return rep
    kept = fitted(valid, shape[0])
    return rep if kept is None or rep.d != math.prod(shape) else rep.with_(x=cleared(rep.x, kept))


def padding_of(f: Functional, inputs: Any, layers: Sequence[str]) -> Padding | None:
    """The padding of the inputs, and which layers return (n, tokens, ...); None without any padding."""
    valid = valid_positions(f, inputs)
    if valid is None or bool(valid.all()):
        return None
    # The samples in which tokens are many show whether a layer is over them all, or those up to the last valid one.
    longest = valid.sum(1).argmax()[None]
    few = f.inputs(take(inputs, longest.cpu()))
    with torch.no_grad(), recording(f.model, list(layers)) as recorded:
        f(f.theta, few)
    shapes = {name: tuple(value.shape[:2]) for name, value in recorded.items() if value.ndim > 2}
    for tokens in _numbers_of_tokens(valid):
        over_tokens = frozenset(name for name, shape in shapes.items() if shape == (1, tokens))
        if over_tokens:
            return Padding(valid[:, :tokens], over_tokens)
    return Padding(valid, frozenset())
