"""What the estimators of dimension share: neighbours among different points, and errors that know of their overlap."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.distinct import distinct_points
from geomfeat.geometry.neighbours import Neighbours, nearest_neighbours

# Two distances below this share of the cloud's size are the same point up to rounding.
SAME_POINT = 1e-14
# A mean log ratio below this, a dimension above a million, is rounding of equal distances.
EQUAL_DISTANCES = 1e-6
MIN_POINTS = 10


@dataclass(frozen=True, eq=False)
class Apart:
    """Neighbours among the m different points; used (m,): those whose nearest neighbour is not a copy up to rounding.

    rows (m,): which of the given points they are. n_copies: points left out.
    """

    near: Neighbours
    used: Bool[Tensor, "m"]
    rows: Tensor
    n_copies: int

    @property
    def n_used(self) -> int:
        """Points that the estimate is made of."""
        return int(self.used.sum())

    def log_ratio(self, near: int, far: int) -> Float[Tensor, "used"]:
        """log (r_far / r_near) of the points used; neighbours are counted from 1."""
        distance = self.near.distance[self.used]
        return torch.log(distance[:, far - 1] / distance[:, near - 1])


def neighbours_apart(x: Float[Tensor, "n d"], k: int, name: str) -> Apart:
    """The k nearest neighbours of every point among the different ones.

    Raises BadInput with fewer than 10 different points or no more than k. `name` is the estimator's, for the message.
    """
    rows = distinct_points(x)
    least = max(MIN_POINTS, k + 1)
    if len(rows) < least:
        raise BadInput(
            f"{len(rows)} different of {x.shape[0]} points: {name} needs at least {least}, give more samples"
            + (" or count fewer neighbours" if k + 1 > MIN_POINTS else "")
        )
    different = x if len(rows) == len(x) else x[rows]
    near = nearest_neighbours(different, k)
    size = (different - different.mean(0)).abs().amax()
    used = near.distance[:, 0] > SAME_POINT * size
    return Apart(near, used, rows, x.shape[0] - int(used.sum()))


def require_different_distances(log_ratio: Float[Tensor, "used"], name: str) -> None:
    """BadInput if the ratios of distances are all 1, or those of fewer than 10 points."""
    if len(log_ratio) < MIN_POINTS or not bool(log_ratio.mean() > EQUAL_DISTANCES):
        raise BadInput(
            f"{len(log_ratio)} points with neighbours apart, all at equal distances (a lattice, or rounded values): "
            f"{name} is not defined; add samples, or use features before rounding"
        )


def overlap_stderr(score: Float[Tensor, "used"], information: float, apart: Apart, k: int) -> float:
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
    every = torch.zeros(len(apart.used), dtype=score.dtype, device=score.device)
    score = score - score.mean()
    every[apart.used] = score
    index, distance = apart.near.index[:, :k], apart.near.distance[:, :k]
    mutual = distance <= distance[index, k - 1]
    pairs = every[:, None] * every[index] * torch.where(mutual, 1.0, 2.0)
    alone = score.square().sum()
    return float(torch.maximum(alone, alone + pairs.sum()).sqrt()) / information
