"""Class means, spectrum, linear dimensions and NC1 of one layer over more samples than fit memory, from sums.

Kept are the number of samples of each class, their sum, and their scatter sum y y', where y are the features less a
fixed point near their mean, all in float64. The point is a whole multiple of a power of two near the spread, so that
sums of whole numbers (and of others with few digits) are exact: they do not depend on the order of the samples, nor on
how many processes they come from. Other sums depend on it by rounding of float64 alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomfeat.distributed import gathered, named, rank, require_mergeable, summed
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.streamed_moments import StreamedMoments, moments_of
from geomfeat.numerics import WORKING
from geomfeat.precision import coarser
from geomfeat.types import Points, as_layer

MOST_ROWS = 4096  # samples that are widened at a time


class MomentSums(NamedTuple):
    """Sums over samples of features less a fixed point (d,), in float64.

    counts (C,) of the samples of each class; totals (C, d) of their features; scatter (C or 1, d, d); precision: the
    coarsest that the features came in.
    """

    counts: Tensor
    totals: Tensor
    scatter: Tensor
    point: Tensor
    precision: torch.dtype


class StreamingMoments:
    """The moments of one layer from batches of its features, at any time, in constant memory.

    Assumes independent samples; repeated samples count as often as they come.

    Several processes: each updates its own object with its own samples, and `all_reduce` gives that of all.

    Args:
        n_classes: labels are whole numbers from 0 to n_classes - 1; None: no labels.
        memory: bytes for the scatter of each class, (n_classes, d, d). Where it takes more, one scatter is held for all
            classes, and NC1 is known for classes of equal size alone.

    >>> x = torch.tensor([[1.0], [3.0], [-1.0], [-3.0]])
    >>> stream = StreamingMoments(2)
    >>> for rows, labels in zip(x.split(2), torch.tensor([0, 0, 1, 1]).split(2)):
    ...     stream.update(rows, labels)
    >>> found = stream.result()
    >>> found.class_means.tolist(), found.eigenvalues.tolist(), round(found.nc1, 12)
    ([[2.0], [-2.0]], [5.0], 0.125)
    """

    def __init__(self, n_classes: int | None = None, *, memory: int = 2**30) -> None:
        if n_classes is not None and n_classes < 1:
            raise BadInput(f"n_classes={n_classes} must be at least 1, or None for features without labels")
        self.n_classes, self.memory = n_classes, memory
        self._precision: torch.dtype = WORKING
        self._point: Tensor | None = None
        self._sums: list[Tensor] = []  # counts (C,), sums (C, d), scatter (C or 1, d, d)

    def update(self, x: Points, labels: Any = None) -> None:
        """Add features (m, d) of new samples, with their labels (m,) where there are classes.

        Raises BadInput for another width, NaN, labels that are missing, unexpected or out of range.
        """
        layer = as_layer(x)
        codes = self._codes(layer.labels if labels is None else labels, layer.n)
        if self._point is None:
            self._begin(_point_near(layer.x[:MOST_ROWS].to(WORKING)), layer.x.device)
        assert self._point is not None
        if layer.d != len(self._point):
            raise BadInput(f"x has {layer.d} features, in the first batch {len(self._point)}")
        self._precision = coarser(self._precision, layer.precision)
        counts, totals, scatter = self._sums
        codes = codes.to(counts.device)
        for rows, own in zip(layer.x.split(MOST_ROWS), codes.split(MOST_ROWS), strict=True):
            y = rows.to(WORKING) - self._point
            counts += torch.bincount(own, minlength=len(counts))
            totals.index_add_(0, own, y)
            if len(scatter) == 1:
                scatter[0] += y.T @ y
                continue
            order = own.argsort(stable=True)
            here, sizes = own.unique(return_counts=True)
            for k, part in zip(here.tolist(), y[order].split(sizes.tolist()), strict=True):
                scatter[k] += part.T @ part

    def result(self) -> StreamedMoments:
        """The numbers of all samples so far.

        Raises BadInput without samples, NoVariance (a BadInput) where all coincide.
        """
        if self._point is None:
            raise BadInput("no samples yet: update the stream first")
        counts, totals, scatter = self._sums
        return moments_of(counts, totals, scatter, self._point, self._precision)

    def sums(self) -> MomentSums:
        """The sums of all samples so far. Raises BadInput without samples."""
        if self._point is None:
            raise BadInput("no samples yet: update the stream first")
        counts, totals, scatter = self._sums
        return MomentSums(counts, totals, scatter, self._point, self._precision)

    def merge(self, other: StreamingMoments) -> None:
        """Add the samples of another object, which stays as it is. Raises BadInput for other classes or widths."""
        require_mergeable([self._facts(), other._facts()])
        if other._point is None:
            return
        if self._point is None:
            self._begin(other._point, other._point.device)
        assert self._point is not None
        self._precision = coarser(self._precision, other._precision)
        self._sums = [
            a + b for a, b in zip(self._sums, _seen_from(self._point, other._point, other._sums), strict=True)
        ]

    def all_reduce(self) -> StreamingMoments:
        """That of the samples of all processes of the group, which all must call this; all get the same.

        This object stays as it is. Ranks without samples take part. Raises BadInput on all where they differ in classes
        or widths, or have no samples at all; RankLost where one has ended.
        """
        everyone = gathered(self._facts())
        require_mergeable(everyone)
        start = next((number for number, facts in enumerate(everyone) if facts["shape"]), None)
        if start is None:
            raise BadInput("no process has samples: update the stream before all_reduce()")
        device = "cpu" if self._point is None else self._point.device
        point = torch.zeros(everyone[start]["shape"]["d"], dtype=WORKING, device=device)
        if self._point is not None and rank() == start:
            point = self._point
        out = StreamingMoments(self.n_classes, memory=self.memory)
        out._begin(summed([point])[0], device)
        assert out._point is not None
        for facts in everyone:
            out._precision = coarser(out._precision, getattr(torch, facts["precision"]))
        moved = out._sums if self._point is None else _seen_from(out._point, self._point, self._sums)
        out._sums = summed(moved)
        return out

    def _begin(self, point: Tensor, device: Any) -> None:
        count, d = self.n_classes or 1, len(point)
        held = count if 8 * count * d * d <= self.memory else 1
        self._point = point.to(device)
        zeros = lambda *shape: torch.zeros(*shape, dtype=WORKING, device=device)  # noqa: E731
        self._sums = [torch.zeros(count, dtype=torch.long, device=device), zeros(count, d), zeros(held, d, d)]

    def _codes(self, labels: Any, n: int) -> Tensor:
        if self.n_classes is None:
            return torch.zeros(n, dtype=torch.long)
        if labels is None:
            raise BadInput(f"n_classes={self.n_classes} needs labels (m,) with every batch: pass labels=")
        codes = torch.as_tensor(labels)
        if codes.shape != (n,) or codes.is_floating_point() or codes.is_complex():
            raise BadInput(f"labels of shape {tuple(codes.shape)}, {codes.dtype}: give {n} whole numbers, one a sample")
        if n and not 0 <= int(codes.min()) <= int(codes.max()) < self.n_classes:
            raise BadInput(f"labels from {int(codes.min())} to {int(codes.max())}: give 0 to {self.n_classes - 1}")
        return codes.long()

    def _facts(self) -> dict[str, Any]:
        return {
            "settings": {"n_classes": self.n_classes, "memory": self.memory},
            "shape": None if self._point is None else {"d": len(self._point)},
            "precision": named(self._precision),
        }


def _point_near(x: Tensor) -> Tensor:
    """The mean (d,) of samples, in whole multiples of the power of two below each feature's largest deviation."""
    mean = x.mean(0)
    largest = (x - mean).abs().amax(0)
    unit = torch.where(largest > 0, torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - 1), 1.0)
    return (mean / unit).round() * unit


def _seen_from(point: Tensor, own: Tensor, sums: list[Tensor]) -> list[Tensor]:
    """The sums of the same samples less another point: y becomes y + c."""
    counts, totals, scatter = sums
    c = own - point
    if not bool(c.any()):
        return sums
    n, total = (counts, totals) if len(scatter) > 1 else (counts.sum(0, keepdim=True), totals.sum(0, keepdim=True))
    mixed = total[:, :, None] * c
    moved = scatter + mixed + mixed.transpose(1, 2) + n[:, None, None] * torch.outer(c, c)
    return [counts, totals + counts[:, None] * c, moved]
