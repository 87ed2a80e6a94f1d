"""Whether dichotomies of manifolds are linearly separable, decided by the certified cone solver."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.geometry.cone import project_on_cones
from geomfeat.numerics import WORKING


@dataclass(frozen=True, eq=False)
class Separability:
    """separable, margin: of every dichotomy. margin: distance of the origin from the hull of the signed unit points.

    decided: the answer is certified. Where it is not, `separable` is False and must not be counted.
    """

    separable: Bool[Tensor, "m"]
    margin: Float[Tensor, "m"]
    decided: Bool[Tensor, "m"]


def separability(points: Float[Tensor, "k r"], owner: Int[Tensor, "k"], y: Float[Tensor, "m P"]) -> Separability:
    """Is there a w with y_owner(j) x_j . w > 0 for all points, for every row of y?

    There is, exactly if the origin lies outside the convex hull of the points y x / |x| (Gordan 1873). The hull's
    nearest point comes from one projection: with z_j = (y x_j / |x_j|, 1), the residual of e = (0, 1) on the cone of
    the z_j has |v|^2 = m^2 / (1 + m^2), with m the distance (the hard margin). Zero points are left out.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    >>> y = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]], dtype=torch.float64)
    >>> separability(x, torch.arange(3), y).separable.tolist()
    [False, True]
    """
    lengths = torch.linalg.vector_norm(points.to(WORKING), dim=1, keepdim=True)
    kept = lengths[:, 0] > 0
    unit, owner = points.to(WORKING)[kept] / lengths[kept], owner[kept]
    one = torch.ones_like(unit[:, :1])
    # A point has the sign of its manifold, its last coordinate has not: each sign gets a copy, the other is left out.
    lifted = torch.cat([torch.cat([unit, one], 1), torch.cat([-unit, one], 1)])
    both = torch.cat([owner, owner + y.shape[1]])
    chosen = torch.cat([(y > 0), (y < 0)], 1).to(WORKING)
    target = torch.zeros(len(y), lifted.shape[1], dtype=WORKING, device=points.device)
    target[:, -1] = 1.0
    found = project_on_cones(lifted, both, target, chosen)
    rest = found.residual.square().sum(1).clamp(0.0, 1.0 - 1e-15)
    margin = torch.where(found.inside, 0.0, (rest / (1 - rest)).sqrt())
    return Separability(found.certified & ~found.inside, margin, found.certified)


def distinct_dichotomies(y: Float[Tensor, "draws P"], most: int) -> tuple[Float[Tensor, "m P"], Int[Tensor, "m"]]:
    """The first `most` rows of y that differ by more than a global sign, and how often each occurs.

    >>> distinct_dichotomies(torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]), 5)[1].tolist()
    [2, 1]
    """
    canonical = y * y[:, :1]
    rows, which, counts = torch.unique(canonical, dim=0, return_inverse=True, return_counts=True)
    first = torch.full((len(rows),), len(y), device=y.device).scatter_reduce(
        0, which, torch.arange(len(y), device=y.device), "amin"
    )
    order = first.argsort()[:most]
    return rows[order], counts[order]
