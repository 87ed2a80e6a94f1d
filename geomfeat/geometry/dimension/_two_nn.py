"""Intrinsic dimension from the two nearest neighbours (TwoNN; Facco, d'Errico, Rodriguez & Laio 2017).

Where the density is even over the range of two neighbours, mu = r2 / r1 follows a Pareto law with exponent d:
P(mu > m) = m^-d. Two estimators of d from the observed mu:

    "mle":     d = (n - 1) / sum log mu      (likelihood without its bias)
    "linear":  slope through the origin of -log(1 - F(mu)) against log mu, without the largest 10 % of mu
               (the published fit; F(mu_(i)) = i / n)
"""

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension._valid_neighbours import (
    copies_and_ties,
    neighbours_apart,
    overlap_stderr,
    require_different_distances,
    require_no_steps,
    require_possible,
)
from geomfeat.numerics import WORKING, jackknife_stderr
from geomfeat.types import Points

METHODS = ("mle", "linear")


@dataclass(frozen=True)
class IntrinsicDimension(BaseResult):
    """A dimension with its standard error.

    n_used: points that it is made of. n_duplicates: copies left out. method: which estimator.
    neighbours: (nearest, furthest) neighbour that it compares. scale: mean distance to the furthest.
    tied: share of the distances compared that are equal; of continuous data none are.
    """

    value: float
    stderr: float
    n_used: int
    n_duplicates: int
    method: str
    neighbours: tuple[int, int] = (1, 2)
    scale: float = nan
    tied: float = 0.0

    @property
    def note(self) -> str:
        """What to know of it: copies left out, and distances that are tied."""
        return copies_and_ties(self.n_duplicates, self.tied)


def two_nn(x: Points, *, method: str = "mle", discard: float | None = None) -> IntrinsicDimension:
    """TwoNN dimension of the points, with its standard error.

    Args:
        method: "mle" (default) or "linear", see the module.
        discard: share of the largest mu to leave out, "linear" only (default 0.1); the likelihood uses all.

    Copies of a point, up to rounding in the precision that x came in, are left out first: at distance 0 they say
    nothing about dimension. The error of "mle" counts that
    neighbours share distances (`apart.overlap_stderr`); d / sqrt(n), for independent points, is up to 1.4 times less.

    Raises BadInput for another method, with fewer than 10 different points, or if more than a tenth of the ratios are 1
    (a lattice, whole numbers or rounded values), or for a dimension far above the number of features, or many ratios
    of nearly 1 among larger ones (a lattice with noise).

    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> 1.8 < two_nn(x).value < 2.2
    True
    """
    if method not in METHODS:
        raise BadInput(f"method={method!r}: use one of {', '.join(map(repr, METHODS))}")
    if discard is not None and (method == "mle" or not 0 <= discard < 1):
        raise BadInput(f"discard={discard} with method={method!r}: a share in [0, 1), for method='linear' only")
    apart = neighbours_apart(x, 2, "TwoNN")
    tied = require_different_distances(apart, 1, 2, "TwoNN")
    log_mu = apart.log_ratio(1, 2)
    n = len(log_mu)
    if method == "mle":
        # n - 1, not n: the mean of 1 / (sum of n exponential variables) is d / (n - 1).
        value = float((n - 1) / log_mu.sum())
        stderr = overlap_stderr(1 / value - log_mu, n / value**2, apart, 2)
    else:
        share = 0.1 if discard is None else discard
        value = _slope(log_mu, share)
        groups = min(20, n)
        which = torch.arange(n, device=log_mu.device) % groups
        stderr = jackknife_stderr([_slope(log_mu[which != g], share) for g in range(groups)])
    require_possible(value, stderr, apart, "TwoNN")
    require_no_steps(apart, 1, 2, "TwoNN")
    scale = float(apart.near.distance[:, 1].mean())
    return IntrinsicDimension(value, stderr, n, apart.n_copies, method, (1, 2), scale, tied)


def _slope(log_mu: Tensor, discard: float) -> float:
    n = len(log_mu)
    kept = log_mu.sort().values[: max(2, int(n * (1 - discard)))]
    empirical = torch.arange(1, len(kept) + 1, dtype=WORKING, device=kept.device) / n
    ok = empirical < 1  # log(1 - F) of the last point is minus infinity
    kept, y = kept[ok], -torch.log1p(-empirical[ok])
    return float((kept @ y) / (kept @ kept))
