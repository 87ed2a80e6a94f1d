"""How firm the place by the tangent kernel is: its spread over the resampled probes of `bootstrap`.

A resample counts probe i w_i times. What was measured by pairs of probes (the kernel's change) or by probes (the gap)
is then counted with weights w_i w_j, or w_i. A demand also has another linear response Dtheta_w = J' a_w in every
resample, which its solution gives. The kernel's relative change c_w at s* Dtheta_w is measured on two random vectors
or sums, the same for all resamples; that on the target, on a_w. With `slope` that of log c over log s at s*,

    kappa_w = kappa + (log10 c_w - log10 c) / slope.

Leaving the direction of Dtheta as it is would make the interval two to three times too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from geomfeat.numerics import WORKING

# Resamples whose responses are kept for the demands: each costs a few products with the kernel.
KEPT = 8
FEW_KEPT = 4  # of a network of many parameters


@dataclass(frozen=True, eq=False)
class ResampledResponse:
    """The linear response of a resample.

    Attributes:
        coefficients: (n, k) a, Dtheta = J' a. drawn: the probes that were, of the n; the others count for nothing.
        pulled: returns Dtheta, name -> tensor; from factors of the Jacobian anew at every call, for its memory is used.
    """

    coefficients: Tensor
    drawn: Tensor
    pulled: Callable[[], Mapping[str, Tensor]]

    @cached_property
    def direction(self) -> Mapping[str, Tensor]:
        """Dtheta."""
        return self.pulled()

    def release(self) -> None:
        """Forget Dtheta, which is as large as the network, until it is asked for again."""
        vars(self).pop("direction", None)


@dataclass(frozen=True, eq=False)
class Resample:
    """One resample of the probes: how often each counts (n,), and its linear response, where it is kept."""

    weights: Tensor
    response: ResampledResponse | None = None


Squares = tuple[Tensor, Tensor]
# A number of a resample, but for a constant; NaN where the resample does not know it.
OfResample = Callable[[Resample], float]


def log_change(squares: Squares, rows: Tensor, weights: Tensor) -> float:
    """log10 of |change| / |before| over probes that are counted `weights` (n,) times.

    Args:
        squares: of what was there before and of its change: each (n', n') sums over the outputs of each pair of probes,
            or (n',) over those of each probe. rows: (n',) which probes these are, of all.
    """
    w = weights[rows.to(weights.device)].to(WORKING)
    # A pair of probes counts as often as the one times as often as the other.
    w = w[:, None] * w if squares[0].ndim == 2 else w
    before, change = (float((w.to(s.device) * s).sum()) for s in squares)
    return 0.5 * math.log10(change / before) if before > 0 and change > 0 else math.nan


def measured(squares: Squares, rows: Tensor) -> OfResample:
    """A relative change that was measured, log10."""
    return lambda resample: log_change(squares, rows, resample.weights)


def along_response(squares: Callable[[ResampledResponse], Squares], rows: Tensor, slope: float = 1.0) -> OfResample:
    """A relative change along the resample's own response, log10 over `slope`: a demand but for its sign."""

    def number(resample: Resample) -> float:
        if resample.response is None:
            return math.nan
        return log_change(squares(resample.response), rows, resample.weights) / slope

    return number


def pair_squares(kernel: Tensor, n_outputs: int) -> Tensor:
    """(n, n) sums of squares of a full kernel (n C, n C) over the outputs of each pair of samples.

    >>> pair_squares(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 2).tolist()
    [[30.0]]
    """
    n = len(kernel) // n_outputs
    return kernel.reshape(n, n_outputs, n, n_outputs).square().sum((1, 3))


def standard_errors(numbers: Mapping[str, OfResample], resamples: list[Resample]) -> dict[str, float]:
    """Name -> standard deviation over the resamples, in decades; NaN where fewer than two of them know it."""
    found: dict[str, list[float]] = {name: [] for name in numbers}
    for resample in resamples:
        for name, of in numbers.items():
            found[name].append(of(resample))
        if resample.response is not None:
            resample.response.release()
    return {name: _deviation(values) for name, values in found.items()}


def _deviation(values: list[float]) -> float:
    known = torch.tensor([v for v in values if math.isfinite(v)], dtype=WORKING)
    return float(known.std()) if len(known) > 1 else math.nan
