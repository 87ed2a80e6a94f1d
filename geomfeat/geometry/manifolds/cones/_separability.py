"""Whether dichotomies of manifolds are linearly separable: every answer is certified or marked.

A hyperplane that need not pass through the origin is one through the origin for points with a constant coordinate. The
points are centred and scaled to a largest length of 1 first (see `lifted`), which changes no answer, makes the result
the same for shifted points, and keeps the constant as large as the data.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.geometry.manifolds.cones.project import project_on_cones
from geomfeat.geometry.manifolds.cones.separating_hyperplane import TOUCH, separates
from geomfeat.geometry.manifolds.point_clouds import is_centre
from geomfeat.numerics import WORKING, centered, safe_eigh
from geomfeat.precision import unit_of

# Directions with less than this share of the largest moment are left out of the least squares fit.
RANK_CUT = 1e-12
# A least squares separator must clear every point by this much (unit points, targets +-1) to count as one.
CLEAR = 1e-9


@dataclass(frozen=True, eq=False)
class Separability(BaseResult):
    """separable: of every dichotomy. decided: certified; where it is not, `separable` must not be used.

    `to_frame()`: one row for each dichotomy: separable, decided.
    """

    separable: Bool[Tensor, "m"]
    decided: Bool[Tensor, "m"]

    _rows = ("separable", "decided")


def separability(
    points: Float[Tensor, "k r"], owner: Int[Tensor, "k"], y: Float[Tensor, "m P"], bias: bool = False
) -> Separability:
    """Is there a w (and a b) with y_owner(j) (x_j . w + b) > 0 for all points, for every row of y?

    Without bias b = 0, and points at the origin are left out. The least squares fit of the labels often is such a w,
    which settles it, for all rows with one factorisation. The others are decided by `margins`, and what that cannot
    certify by `separates`, one row at a time.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    >>> y = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]], dtype=torch.float64)
    >>> separability(x, torch.arange(3), y).separable.tolist()
    [False, True]
    >>> separability(x, torch.arange(3), y, bias=True).separable.tolist()
    [True, True]
    """
    unit, kept_owner = unit_points(lifted(points) if bias else points, owner)
    labels = y.to(WORKING).T[kept_owner]
    if not len(unit):
        return Separability(*[torch.ones(len(y), dtype=torch.bool, device=points.device)] * 2)
    size, directions = safe_eigh(unit.T @ unit)
    kept = size > RANK_CUT * size[-1]
    w = directions[:, kept] @ ((directions[:, kept].T @ (unit.T @ labels)) / size[kept, None])
    separable = ((unit @ w) * labels).amin(0) > CLEAR
    decided = separable.clone()
    rest = torch.nonzero(~separable)[:, 0]
    if len(rest):
        margin, decided[rest] = margins(unit, kept_owner, y[rest])
        separable[rest] = margin > 0
    for row in torch.nonzero(~decided)[:, 0].tolist():
        in_play = labels[:, row] != 0
        answer = separates((unit * labels[:, row, None])[in_play].cpu().numpy())
        separable[row], decided[row] = bool(answer), answer is not None
    return Separability(separable, decided)


def margins(
    points: Float[Tensor, "k r"], owner: Int[Tensor, "k"], y: Float[Tensor, "m P"]
) -> tuple[Float[Tensor, "m"], Bool[Tensor, "m"]]:
    """Largest margin of a hyperplane through the origin for unit points, 0 if none separates; and if that is proved.

    A separating w exists exactly if the origin lies outside the convex hull of the points y x / |x| (Gordan 1873), and
    the margin is its distance m from there. One projection gives it: with z_j = (y x_j / |x_j|, 1), the residual of
    e = (0, 1) on the cone of the z_j has |v|^2 = m^2 / (1 + m^2).

    >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    >>> round(float(margins(x, torch.arange(2), torch.ones(1, 2, dtype=torch.float64))[0]) ** 2, 12)
    0.5
    """
    unit, owner = unit_points(points, owner)
    one = torch.ones_like(unit[:, :1])
    # A point has the sign of its manifold, its last coordinate has not: each sign gets a copy, the other is left out.
    lifted = torch.cat([torch.cat([unit, one], 1), torch.cat([-unit, one], 1)])
    both = torch.cat([owner, owner + y.shape[1]])
    labels = y.to(WORKING)[:, owner]
    chosen = torch.cat([(y > 0), (y < 0)], 1).to(WORKING)
    target = torch.zeros(len(y), lifted.shape[1], dtype=WORKING, device=points.device)
    target[:, -1] = 1.0
    found = project_on_cones(lifted, both, target, chosen)
    # Nearness to 0 proves nothing: a direction that clears every point does, or a point of the hull at the origin.
    w = -found.residual[:, :-1]
    clearance = torch.where(labels == 0, torch.inf, (unit @ w.T).T * labels).amin(1)
    clears = clearance > TOUCH * torch.linalg.vector_norm(w, dim=1)
    weights = found.projection[:, -1]
    meets = (weights > 0) & (torch.linalg.vector_norm(found.projection[:, :-1], dim=1) <= TOUCH * weights)
    # A hull at distance m from the origin leaves |t - p|^2 = m^2 / (1 + m^2), since |t| = 1; below 1 keeps m finite.
    rest = found.residual.square().sum(1).clamp(0.0, 1.0 - 1e-15)
    return torch.where(clears, (rest / (1 - rest)).sqrt(), 0.0), found.certified & (clears != meets)


def unit_points(points: Float[Tensor, "k r"], owner: Int[Tensor, "k"]) -> tuple[Tensor, Tensor]:
    """The points scaled to unit length, which a cone does not notice, and their owners; the origin is left out."""
    points = points.to(WORKING)
    largest = points.abs().amax(1, keepdim=True)
    kept = largest[:, 0] > 0
    scaled = points[kept] / largest[kept]
    return scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True), owner[kept]


def lifted(points: Float[Tensor, "k r"], rounding: Float[Tensor, "k"] | None = None) -> Float[Tensor, "k r_plus_1"]:
    """The points minus their mean, in units of the largest distance from it, with a last coordinate of 1.

    `rounding`: length of the rounding error of each point; None: that of float64.
    """
    points = points.to(WORKING)
    unit = unit_of(points)
    points = points / unit
    own = torch.linalg.vector_norm(points, dim=1) * torch.finfo(WORKING).eps
    moved = centered(points)
    still = is_centre(moved, points, own if rounding is None else rounding / unit)
    moved = torch.where(still[:, None], 0.0, moved)
    largest = moved.abs().max().clamp_min(torch.finfo(WORKING).tiny)
    moved = moved / largest
    length = torch.linalg.vector_norm(moved, dim=1).max().clamp_min(torch.finfo(WORKING).tiny)
    return torch.cat([moved / length, torch.ones_like(moved[:, :1])], 1)


def distinct_dichotomies(
    y: Float[Tensor, "draws P"], most: int | None = None
) -> tuple[Float[Tensor, "m P"], Int[Tensor, "m"]]:
    """The first `most` rows of y (+-1) that differ by more than a global sign, and how often each occurs.

    >>> distinct_dichotomies(torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]), 5)[1].tolist()
    [2, 1]
    """
    canonical = y * y[:, :1]
    bits = np.packbits((canonical > 0).cpu().numpy(), axis=1)
    _, first, counts = np.unique(bits.view(f"V{bits.shape[1]}")[:, 0], return_index=True, return_counts=True)
    order = np.argsort(first)[:most]
    return canonical[torch.from_numpy(first[order]).to(y.device)], torch.from_numpy(counts[order]).to(y.device)
