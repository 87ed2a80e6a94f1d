"""Intrinsic dimension from the ratio of the distances to two neighbours of any order (GRIDE; Denti et al. 2022).

Where the density is even up to the n2-th neighbour, mu = r_n2 / r_n1 has the density (Denti et al. 2022, eq. 8)

    f(mu) = d (mu^d - 1)^(n2 - n1 - 1) / (mu^((n2 - 1) d + 1) B(n2 - n1, n1)),        mu > 1.

With l = log mu the derivative of the log-likelihood is

    (n - 1) / d + (n2 - n1 - 1) sum l / (1 - exp(-d l)) - (n2 - 1) sum l

(n - 1 in place of n: without bias at n1 = 1, n2 = 2, where it is TwoNN). It falls and is convex in d, so that Newton's
steps from below its root go up to it.
"""

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension._two_nn import IntrinsicDimension
from geomfeat.geometry.dimension._valid_neighbours import (
    Apart,
    neighbours_apart,
    overlap_stderr,
    require_different_distances,
    require_no_steps,
    require_possible,
)
from geomfeat.types import Points

# Newton's method: the log likelihood is concave in d, so it ends after a handful of steps.
STEPS = 100


def gride(x: Points, n1: int = 2, n2: int | None = None) -> IntrinsicDimension:
    """GRIDE dimension of the points from their n1-th and n2-th neighbours (n2 = 2 n1 by default).

    Larger n1 measure at a larger scale, with less noise and more bias from curvature, edges and uneven density;
    `dimension_curve` has a range of them. Copies of a point are left out first.

    Raises BadInput unless 1 <= n1 < n2, or with no more than n2 (or fewer than 10) different points, or if more than a
    tenth of the ratios are 1 (a lattice, whole numbers or rounded values), or for a dimension far above the number of
    features (nearly a lattice).

    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> 1.8 < gride(x, 4).value < 2.2
    True
    """
    n2 = 2 * n1 if n2 is None else n2
    if not 1 <= n1 < n2:
        raise BadInput(f"n1={n1}, n2={n2}: neighbours are counted from 1, and n2 must be the further one")
    return gride_of(neighbours_apart(x, n2, "GRIDE"), n1, n2)


def gride_of(apart: Apart, n1: int, n2: int) -> IntrinsicDimension:
    """The same from neighbours that are known."""
    tie_share = require_different_distances(apart, n1, n2, "GRIDE")
    l = apart.log_ratio(n1, n2)
    n, between = len(l), n2 - n1 - 1
    total = l.sum()
    # Points whose two distances are equal have l / (1 - exp(-d l)) = 1 / d.
    tied = l <= torch.finfo(l.dtype).tiny
    # The solution between next neighbours, n2 = n1 + 1. There n - 1 in place of n takes away the bias, as for the rate
    # of n exponential variables.
    d = ((n - 1) / ((n2 - 1) * total)).clone()
    for _ in range(STEPS):
        ratio, slope = _terms(l, d, tied)
        gradient = (n - 1) / d + between * ratio.sum() - (n2 - 1) * total
        step = gradient / ((n - 1) / d**2 + between * slope.sum())
        d = d + step
        # Nothing is left to gain in double precision.
        if not bool(step.abs() > 1e-14 * d):
            break
    ratio, slope = _terms(l, d, tied)
    score = 1 / d + between * ratio - (n2 - 1) * l
    information = float(n / d**2 + between * slope.sum())
    stderr = overlap_stderr(score, information, apart, n2)
    require_possible(float(d), stderr, apart, "GRIDE")
    require_no_steps(apart, n1, n2, "GRIDE")
    scale = float(apart.near.distance[:, n2 - 1].mean())
    return IntrinsicDimension(float(d), stderr, n, apart.n_copies, "gride", (n1, n2), scale, tie_share)


def _terms(l: Tensor, d: Tensor, tied: Tensor) -> tuple[Tensor, Tensor]:
    """l / (1 - exp(-d l)) and minus its derivative in d."""
    # 1 - exp(-d l) would lose its digits where the two neighbours are about equally far.
    below = -torch.expm1(-d * l)
    ratio = torch.where(tied, 1 / d, l / below)
    return ratio, torch.where(tied, 1 / d**2, ratio.square() * torch.exp(-d * l))
