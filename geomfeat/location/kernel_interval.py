"""How firm the place by the tangent kernel is: its spread over the resampled probes of `bootstrap`.

A resample counts probe i w_i times. Its linear response has its own length |Dtheta_w|, known from its demand, and its
own norms of the kernels that were computed, with weights w_i w_j on the blocks of probes i and j. To first order

    kappa_w = kappa + log10(|Dtheta_w| / |Dtheta|) + (log10 c_w - log10 c) / slope,

c being the kernel's relative change at s*, and slope that of log c over log s there. So no kernel is computed anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.numerics import WORKING


@dataclass(frozen=True, eq=False)
class Compared:
    """Squares of one comparison, by probes: of what was there before, and of its change.

    Attributes:
        before, change: (n', n') sums over the outputs of each pair of probes, or (n',) over those of each probe.
        rows: (n',) which probes these are, of all.
        slope: of a demand, log change over log s; None for a number that is the relative change itself.
    """

    before: Tensor
    change: Tensor
    rows: Tensor
    slope: float | None = None

    def log_change(self, weights: Tensor) -> float:
        """log10 of |change| / |before| over the probes, counted `weights` (n,) times."""
        w = weights[self.rows.to(weights.device)].to(WORKING)
        w = w[:, None] * w if self.before.ndim == 2 else w
        before, change = (float((w.to(s.device) * s).sum()) for s in (self.before, self.change))
        return 0.5 * math.log10(change / before) if before > 0 and change > 0 else math.nan


@dataclass(frozen=True, eq=False)
class Resample:
    """One resample of the probes: how often each counts (n,), and log10 of the length of its linear response."""

    weights: Tensor
    log_length: float


def pair_squares(kernel: Tensor, n_outputs: int) -> Tensor:
    """(n, n) sums of squares of a full kernel (n C, n C) over the outputs of each pair of samples.

    >>> pair_squares(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 2).tolist()
    [[30.0]]
    """
    n = len(kernel) // n_outputs
    return kernel.reshape(n, n_outputs, n, n_outputs).square().sum((1, 3))


def standard_errors(comparisons: Mapping[str, Compared], resamples: list[Resample]) -> dict[str, float]:
    """Name -> standard deviation over the resamples, in decades; NaN where fewer than two of them know it."""
    return {name: _deviation([_shift(one, resample) for resample in resamples]) for name, one in comparisons.items()}


def _shift(one: Compared, resample: Resample) -> float:
    """The resample's number, but for a constant."""
    change = one.log_change(resample.weights)
    return change if one.slope is None else resample.log_length + change / one.slope


def _deviation(values: list[float]) -> float:
    known = torch.tensor([v for v in values if math.isfinite(v)], dtype=WORKING)
    return float(known.std()) if len(known) > 1 else math.nan
