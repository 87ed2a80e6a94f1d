"""Gradients of one matrix that is used both ways round: a token embedding that is the read-out too, a tied decoder.

One use gives sample i the gradient A_i = sum_t delta_t a_t', the other B_i = sum_s b_s epsilon_s' of the same shape:
there its inputs b are multiplied by the transposed matrix (or look up its rows: b is then one-hot). The product of two
samples is

    <A_i + B_i, A_j + B_j> = <A_i, A_j> + <B_i, B_j> + sum_ts (delta_it . b_js)(a_it . epsilon_js) + the same of (j, i).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.tangent.layerwise.outer_factors import SCRATCH, Outer, Rows


@dataclass(frozen=True, eq=False)
class Tied:
    """The factors of the two uses: the deltas of each meet the inputs of the other."""

    first: Outer
    second: Outer

    def take(self, rows: slice | Tensor) -> "Tied":
        """Some of the samples."""
        return Tied(self.first.take(rows), self.second.take(rows))

    def trimmed(self) -> "Tied":
        """Without positions at which all deltas are zero."""
        return Tied(self.first.trimmed(), self.second.trimmed())

    def total(self, weights: Tensor) -> Tensor:
        """(out in,) sum over samples, weighted, for the first output, in the shape of the first use."""
        out = self.first.deltas().shape[3]
        first = self.first.total(weights)
        first.view(out, -1).add_(self.second.total(weights).view(-1, out).T)
        return first

    def combined(self, coefficients: Tensor, *, flipped: bool = False) -> Tensor:
        """(1, out, in) sum over samples and outputs with coefficients (n, k), in the shape of the first use."""
        first = self.first.combined(coefficients, flipped=flipped)
        return first.add_(self.second.combined(coefficients, flipped=not flipped).mT)

    def add(self, out: Tensor, other: "Tied", symmetric: bool) -> None:
        """Add all products with `other` to `out` (n, k, n2, k), or (n, 1, n2, 1) for the sum over outputs."""
        self.first.add(out, other.first, symmetric)
        self.second.add(out, other.second, symmetric)
        summed = out.shape[1] == 1 and out.shape[3] == 1
        for i, product in _crossed(self.first, other.second, summed):
            out[i] += product
        for j, product in _crossed(other.first, self.second, summed):
            out[:, :, j] += product.permute(1, 2, 0)

    def add_own(self, out: Tensor) -> None:
        """Add each sample's products with itself to `out` (n, k, k), or (n, 1, 1) for the sum over outputs."""
        self.first.add_own(out)
        self.second.add_own(out)
        for i in range(len(out)):
            one = self.take(slice(i, i + 1))
            ((_, product),) = _crossed(one.first, one.second, out.shape[1] == 1)
            out[i] += product[:, 0] + product[:, 0].T


Factor = Rows | Outer | Tied


def _crossed(first: Outer, second: Outer, summed: bool) -> Iterator[tuple[int, Tensor]]:
    """Sample i of `first`, and (k, n2, k) its products with all of `second`; (1, n2, 1) for the sum over outputs."""
    a, delta = first.inputs()[:, 0], first.deltas()[:, :, 0]
    b, epsilon = second.inputs(), second.deltas()[:, :, 0]
    (_, k, size, t), (n2, k2, width, s) = delta.shape, epsilon.shape
    right = epsilon.permute(2, 0, 1, 3).reshape(width, -1)
    step = max(1, SCRATCH // (t * k2 * s * delta.element_size()))
    for i in range(len(delta)):
        rows = delta[i].transpose(1, 2).reshape(k * t, size)
        seen = _at(rows, b).view(k, t, n2, s)
        product = delta.new_empty(1 if summed else k, n2, 1 if summed else k2)
        for start in range(0, n2, step):
            part = slice(start, min(n2, start + step))
            columns = right.view(width, n2, k2, s)[:, part].reshape(width, -1)
            met = (a[i].T @ columns).view(t, part.stop - part.start, k2, s)
            formula = "ctjs,tjcs->j" if summed else "ctjs,tjds->cjd"
            found = torch.einsum(formula, seen[:, :, part], met)
            product[:, part] = found[None, :, None] if summed else found
        yield i, product


def _at(rows: Tensor, b: Tensor) -> Tensor:
    """(rows, n2, positions) products of rows (.., p) with inputs (n2, 1, p, positions), or tokens (n2, positions)."""
    if not b.is_floating_point():
        return rows[:, b.flatten()]
    return rows @ b[:, 0].transpose(0, 1).reshape(rows.shape[1], -1)
