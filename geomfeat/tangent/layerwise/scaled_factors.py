"""Gradients of a weight, each entry times a factor of its own: the coordinates of an optimizer (`tangent/metric.py`).

One number for a whole weight goes into its factors. With one for every entry the gradients are no outer products, so
they are formed, some of the outputs of the weight at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from geomfeat.tangent.layerwise.forward_pass import Factors
from geomfeat.tangent.layerwise.outer_factors import SCRATCH, Outer, Rows, Where, add_own_products, add_rows, gradients
from geomfeat.tangent.layerwise.tied_factors import Factor, Tied


@dataclass(frozen=True, eq=False)
class Scaled:
    """The gradients of `factor` times `scale` (groups, out, in); `in` holds the bias's 1 where the factor's does."""

    factor: Outer | Tied
    scale: Tensor

    @property
    def with_bias(self) -> bool:
        """Whether the last column is a bias's."""
        return isinstance(self.factor, Outer) and self.factor.with_bias

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.scale.shape[2]

    def take(self, rows: slice | Tensor) -> Scaled:
        """Some of the samples."""
        return Scaled(self.factor.take(rows), self.scale)

    def trimmed(self) -> Scaled:
        """Without positions at which all deltas are zero."""
        return Scaled(self.factor.trimmed(), self.scale)

    def total(self, weights: Tensor) -> Tensor:
        """(groups out in,) sum over samples, weighted, for the first output; without the bias."""
        scale = self.scale[..., :-1] if self.with_bias else self.scale
        return self.factor.total(weights) * scale.reshape(-1)

    def combined(self, coefficients: Tensor, *, flipped: bool = False) -> Tensor:
        """(groups, out, in) sum over samples and outputs with coefficients (n, k); in includes the bias's 1."""
        return self.factor.combined(coefficients, flipped=flipped) * self.scale

    def add(self, out: Tensor, other: Scaled, symmetric: bool) -> None:
        """Add all products with `other` to `out` (n, k, n2, k), or (n, 1, n2, 1) for the sum over outputs."""
        for g, h in self._parts(other):
            add_rows(out, g, h, symmetric)

    def add_own(self, out: Tensor) -> None:
        """Add each sample's products with itself to `out` (n, k, k), or (n, 1, 1) for the sum over outputs."""
        for g, _ in self._parts(self):
            add_own_products(out, g, g)

    def _parts(self, other: Scaled) -> Iterator[tuple[Tensor, Tensor]]:
        """Gradients (n, k, p) of this and the other, for some of the weight's outputs at a time."""
        groups, size, width = self.scale.shape
        (n, k), n2 = _shape(self.factor), 0 if other is self else _shape(other.factor)[0]
        step = max(1, 4 * SCRATCH // ((n + n2) * k * groups * width * self.scale.element_size()))
        for start in range(0, size, step):
            part = slice(start, min(size, start + step))
            g = self._gradients(part)
            yield g, g if other is self else other._gradients(part)

    def _gradients(self, part: slice) -> Tensor:
        if isinstance(self.factor, Outer):
            found = gradients(self.factor.inputs(), self.factor.deltas()[:, :, :, part], self.factor.width)
        else:
            first, second = self.factor.first, self.factor.second
            found = gradients(first.inputs(), first.deltas()[:, :, :, part], first.width)
            found += _columns(second, part).transpose(3, 4)
        return (found * self.scale[:, part]).flatten(2)


AnyFactors = dict[Where, Factor | Scaled]


def scaled_factors(
    factors: Factors, scale: Mapping[str, Tensor | float], theta: Mapping[str, Tensor], biases: Mapping[Where, Where]
) -> AnyFactors:
    """The factors with every gradient times the scale of its entry.

    Args:
        scale: parameter -> number, or tensor of its shape. theta: the parameters. biases: place of a weight -> that of
            the bias whose gradients its factor holds too.
    """
    return {where: _scaled(where, factor, scale, theta, biases.get(where)) for where, factor in factors.items()}


def _scaled(
    where: Where, factor: Factor, scale: Mapping[str, Tensor | float], theta: Mapping[str, Tensor], bias: Where | None
) -> Factor | Scaled:
    of_weight, of_bias = scale.get(where[0], 1.0), 1.0 if bias is None else scale.get(bias[0], 1.0)
    if not isinstance(of_weight, Tensor) and not isinstance(of_bias, Tensor):
        return _times(factor, of_weight, of_bias)
    own = _entries(where, scale, theta)
    if isinstance(factor, Rows):
        return Rows(factor.g * own.reshape(-1))
    deltas = (factor.first if isinstance(factor, Tied) else factor).deltas()
    own = own.reshape(deltas.shape[2], deltas.shape[3], -1)
    if bias is not None:
        own = torch.cat([own, _entries(bias, scale, theta).reshape(*own.shape[:2], 1)], 2)
    return Scaled(factor, own)


def _times(factor: Factor, number: float, of_bias: float) -> Factor:
    """The gradients times a number; those of the bias that goes with a weight times another one."""
    if isinstance(factor, Rows):
        return factor if number == 1.0 else Rows(number * factor.g)
    if isinstance(factor, Tied):
        return Tied(*(_outer_times(part, number, number) for part in (factor.first, factor.second)))
    return _outer_times(factor, number, of_bias if factor.with_bias else number)


def _outer_times(factor: Outer, number: float, of_bias: float) -> Outer:
    if number == of_bias == 1.0:
        return factor

    def inputs(a: Callable[[], Tensor]) -> Tensor:
        found = a()
        return found if of_bias == number else torch.cat([found[:, :, :-1], of_bias / number * found[:, :, -1:]], 2)

    return Outer(tuple((partial(inputs, a), number * d) for a, d in factor.parts), factor.width, factor.with_bias)


def _entries(where: Where, scale: Mapping[str, Tensor | float], theta: Mapping[str, Tensor]) -> Tensor:
    """The scale of a part of a parameter."""
    name, (offset, shape, strides) = where
    # In the memory layout of the parameter, which the place is given in.
    base = torch.ones_like(theta[name]) * scale.get(name, 1.0)
    return base.as_strided(shape, strides, base.storage_offset() + offset)


def _shape(factor: Outer | Tied) -> tuple[int, int]:
    """(samples, outputs)."""
    deltas = (factor.first if isinstance(factor, Tied) else factor).deltas()
    return deltas.shape[0], deltas.shape[1]


def _columns(factor: Outer, part: slice) -> Tensor:
    """(n, k, groups, out, entries) gradients for some entries of the inputs."""
    a, deltas, count = factor.inputs(), factor.deltas(), part.stop - part.start
    if a.is_floating_point():
        return gradients(a[:, :, part], deltas, count)
    # Tokens outside of the part go to a column of their own, which is dropped.
    inside = (a >= part.start) & (a < part.stop)
    return gradients(torch.where(inside, a - part.start, count), deltas, count + 1)[..., :-1]
