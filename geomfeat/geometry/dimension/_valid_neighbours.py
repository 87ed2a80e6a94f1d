"""What the estimators of dimension share: neighbours among different points, and errors that know of their overlap."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension._nearest_neighbours import Neighbours, nearest_neighbours
from geomfeat.statistics.distinct_points import KnownPoints, distinct_points, far_enough, known_points
from geomfeat.types import Points, as_layer

# A mean log ratio below this, a dimension above a million, is rounding of equal distances.
EQUAL_DISTANCES = 1e-6
# Shares of tied distances (of continuous data none are) from which on a dimension says so, and is not one any more.
SOME_TIES, MANY_TIES = 0.02, 0.1
# Log ratios below this share of their mean, and those below three times as much: of continuous data the latter are
# more than twice as many. Standard errors of such a share that are chance.
NEARLY, STDERRS_OF_A_SHARE = 1 / 30, 3.0
MIN_POINTS = 10
# A dimension so many times the number of features, and so many standard errors above it, is not one of the data.
FAR_ABOVE, STDERRS_ABOVE = 1.5, 5.0
# Standard error of 1 / dimension, relative, times sqrt(n): 1 of independent points, and more as neighbours are shared.
INVERSE_STDERR = 1.4


@dataclass(frozen=True, eq=False)
class Apart:
    """Neighbours among the m points that are different in the precision they came in.

    rows (m,): which of the given points they are. n_copies: points left out.
    """

    near: Neighbours
    points: KnownPoints
    rows: Int[Tensor, "m"]
    n_copies: int

    def log_ratio(self, near: int, far: int) -> Float[Tensor, "m"]:
        """log (r_far / r_near) of every point; neighbours are counted from 1."""
        distance = self.near.distance
        return torch.log(distance[:, far - 1] / distance[:, near - 1])

    def tied(self, near: int, far: int) -> float:
        """Share of the points that have these two neighbours at one distance, beyond what chance makes so near."""
        gap = self.near.distance[:, far - 1] - self.near.distance[:, near - 1]
        equal, beside = gap <= self.points.tie, (gap > self.points.tie) & (gap <= 2 * self.points.tie)
        return max(0.0, float(equal.double().mean() - beside.double().mean()))

    def nearly_tied(self, near: int, far: int) -> float:
        """Share of log ratios near 0 beyond those beside them, surely: as of a lattice with noise."""
        ratio = self.log_ratio(near, far)
        within, around = (float((ratio <= s * NEARLY * ratio.mean()).double().mean()) for s in (1, 3))
        return max(0.0, 2 * within - around - STDERRS_OF_A_SHARE * (around / len(ratio)) ** 0.5)


def neighbours_apart(x: Points, k: int, name: str, *, or_fewer: bool = False) -> Apart:
    """The k nearest neighbours of every point among the different ones, `or_fewer` where there are not as many.

    Points nearer than their rounding are copies, of which only the first counts, if separate from others. Raises
    BadInput with fewer than 10 different points or no more than k. `name` is the estimator's, for the message.
    """
    layer = as_layer(x)
    points = known_points(layer)
    rows = distinct_points(points.x)
    while True:
        k = min(k, max(len(rows), MIN_POINTS) - 1) if or_fewer else k
        least = max(MIN_POINTS, k + 1)
        if len(rows) < least:
            raise BadInput(
                f"{len(rows)} different of {layer.n} points: {name} needs at least {least}, give more samples"
                + (" or count fewer neighbours" if k + 1 > MIN_POINTS else "")
            )
        different = points if len(rows) == layer.n else points.take(rows)
        near = nearest_neighbours(different.x, k)
        nearest, rounding = near.distance[:, 0], different.rounding
        equal, beside = nearest <= rounding, (nearest > rounding) & (nearest <= 2 * rounding)
        # Where points lie this dense anyway, to leave the nearest out would bias the dimension.
        if int(equal.sum()) <= 2 * int(beside.sum()) and bool((nearest > 0).all()):
            return Apart(near, different, rows, layer.n - len(rows))
        rows = rows[far_enough(near.distance, near.index, different.rounding)]


def require_different_distances(apart: Apart, near: int, far: int, name: str) -> float:
    """Share of tied distances among two neighbours; BadInput if these are many, or all ratios are 1."""
    tied, n = apart.tied(near, far), len(apart.rows)
    if not bool(apart.log_ratio(near, far).mean() > EQUAL_DISTANCES):
        raise BadInput(
            f"{n} points with neighbours apart, all at equal distances (a lattice, or rounded values): "
            f"{name} is not defined; add samples, or use features before rounding"
        )
    if tied > MANY_TIES:
        raise BadInput(
            f"{100 * tied:.0f} % of {n} points have neighbours {near} and {far} at one distance: tied, as of whole "
            f"numbers and rounded values; {name} is not defined. Use features before rounding, or further neighbours"
        )
    return tied


def require_possible(value: float, stderr: float, apart: Apart, name: str) -> None:
    """BadInput for a dimension that is far above the number of features: neighbours at nearly equal distances.

    >>> apart = neighbours_apart(torch.rand(50, 2, generator=torch.Generator().manual_seed(0)), 2, "example")
    >>> require_possible(2.3, 0.3, apart, "example")
    """
    d, n = apart.points.x.shape[1], len(apart.rows)
    if value <= FAR_ABOVE * d:
        return
    # The error of the estimate itself grows with it, where a few points at other distances decide it.
    if value - d > STDERRS_ABOVE * stderr or 1 - d / value > STDERRS_ABOVE * INVERSE_STDERR / n**0.5:
        raise BadInput(
            f"{name} gives a dimension of {value:.4g} to points of {d} features, which cannot be: their neighbours are "
            "at nearly equal distances, as on a lattice with a little noise, or copies with noise are all at one "
            "distance. Use further neighbours (gride with a larger n1, dimension_curve), or features without that noise"
        )


def require_no_steps(apart: Apart, near: int, far: int, name: str) -> None:
    """BadInput if two neighbours of many points are at nearly one distance and those of the others are not.

    >>> apart = neighbours_apart(torch.rand(50, 2, generator=torch.Generator().manual_seed(0)), 2, "example")
    >>> require_no_steps(apart, 1, 2, "example")
    """
    nearly, n = apart.nearly_tied(near, far), len(apart.rows)
    if nearly > MANY_TIES:
        raise BadInput(
            f"{100 * nearly:.0f} % of {n} points have neighbours {near} and {far} at nearly one distance, and hardly "
            f"any a little further apart: as on a lattice with a little noise, where {name} is not defined. Use "
            "features without that noise and before rounding, or further neighbours"
        )


def copies_and_ties(n_copies: int, tied: float) -> str:
    """What to say beside a dimension."""
    copies = f"{n_copies} copies of samples left out" if n_copies else ""
    ties = f"{100 * tied:.0f} % of the distances compared are tied (rounded values?), so it may be some % off"
    return "; ".join(filter(None, (copies, ties if tied > SOME_TIES else "")))


def overlap_stderr(score: Float[Tensor, "m"], information: float, apart: Apart, k: int) -> float:
    """Standard error of an estimate that makes the sum of scores 0, where points that are neighbours vary together.

    The variance of the sum is sum_i s_i^2 + sum s_i s_j over the pairs of which one is among the k nearest of the other
    (a sandwich: Liang & Zeger 1986, with neighbours for clusters), over information^2, where information is minus the
    derivative of the sum. Never below what independent points would give. On even clouds it is 1 to 1.3 times the
    spread over data sets up to 20 neighbours and up to 1.8 times at 60, where independence gives .7 to 1; where the
    dimension differs from place to place, it counts that as chance too.

    >>> x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> score = x[:, 0] - x[:, 0].mean()             # a smooth score: neighbours have the same one
    >>> apart = neighbours_apart(x, 5, "example")
    >>> overlap_stderr(score, 200.0, apart, 5) > 2 * float(score.square().sum()) ** 0.5 / 200
    True
    """
    score = score - score.mean()
    index, distance = apart.near.index[:, :k], apart.near.distance[:, :k]
    mutual = distance <= distance[index, k - 1]
    pairs = score[:, None] * score[index] * torch.where(mutual, 1.0, 2.0)
    alone = score.square().sum()
    return float(torch.maximum(alone, alone + pairs.sum()).sqrt()) / information
