"""How firm the place by the tangent kernel is: its spread over the resampled probes of `bootstrap`.

A resample counts probe i w_i times. What was measured by pairs of probes (the kernel's change) or by probes (the gap)
is then counted with weights w_i w_j, or w_i. A demand also has another linear response Dtheta_w = J' a_w in every
resample, which its solution gives. The kernel's relative change c_w at s* Dtheta_w is measured on two random vectors,
the same for all resamples; that on the target, on a_w. With `slope` that of log c over log s at s*,

    kappa_w = kappa + (log10 c_w - log10 c) / slope.

Leaving the direction of Dtheta as it is would make the interval two to three times too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from geomfeat.numerics import WORKING

# Resamples whose responses are kept for the demands: each costs a few products with the kernel.
KEPT = 8
Squares = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Compared:
    """Squares of one comparison, by probes: of what was there before, and of its change.

    Attributes:
        squares: of what was there before and of its change: each (n', n') sums over the outputs of each pair of probes,
            or (n',) over those of each probe. For a demand, a function of a resample with its response.
        rows: (n',) which probes these are, of all.
        slope: of a demand, log change over log s; 1 for a number that is the relative change itself.
    """

    squares: Squares | Callable[[Resample], Squares]
    rows: Tensor
    slope: float = 1.0

    def shift(self, resample: Resample) -> float:
        """The number of a resample, but for a constant: log10 of |change| / |before| over the slope."""
        if callable(self.squares) and not resample.direction:
            return math.nan
        before, change = self.squares(resample) if callable(self.squares) else self.squares
        w = resample.weights[self.rows.to(resample.weights.device)].to(WORKING)
        w = w[:, None] * w if before.ndim == 2 else w
        sizes = [float((w.to(s.device) * s).sum()) for s in (before, change)]
        return 0.5 * math.log10(sizes[1] / sizes[0]) / self.slope if min(sizes) > 0 else math.nan


@dataclass(frozen=True, eq=False)
class Resample:
    """One resample of the probes: how often each counts (n,), and its linear response, where it is kept.

    Attributes:
        direction: Dtheta, name -> tensor; empty where it is not kept. coefficients: (n, k) a, with Dtheta = J' a.
    """

    weights: Tensor
    direction: Mapping[str, Tensor] = field(default_factory=dict)
    coefficients: Tensor | None = None


def pair_squares(kernel: Tensor, n_outputs: int) -> Tensor:
    """(n, n) sums of squares of a full kernel (n C, n C) over the outputs of each pair of samples.

    >>> pair_squares(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 2).tolist()
    [[30.0]]
    """
    n = len(kernel) // n_outputs
    return kernel.reshape(n, n_outputs, n, n_outputs).square().sum((1, 3))


def standard_errors(comparisons: Mapping[str, Compared], resamples: list[Resample]) -> dict[str, float]:
    """Name -> standard deviation over the resamples, in decades; NaN where fewer than two of them know it."""
    return {name: _deviation([one.shift(resample) for resample in resamples]) for name, one in comparisons.items()}


def _deviation(values: list[float]) -> float:
    known = torch.tensor([v for v in values if math.isfinite(v)], dtype=WORKING)
    return float(known.std()) if len(known) > 1 else math.nan
