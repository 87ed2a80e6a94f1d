"""Replica mean-field capacity: each manifold alone, as if the centres of all were random.

Chung, Lee & Sompolinsky 2018 (PRX 8 031003) and Cohen et al. 2020 (Nat. Commun. 11 746), for comparison with the
literature before GLUE. A manifold (minus the mean of all points) is seen from its centre, in units of the centre's
length, with a last coordinate 1: the columns of S. With T = (t, t0) ~ N(0, I_{D+1}),

    V = argmin |V - T|^2  subject to  S'V <= -kappa        anchor  s~ = (T - V) / sum z   (z the multipliers)
    1 / alpha = E [max(T . s~ + kappa, 0)^2 / |s~|^2]      manifolds combine by the mean of 1 / alpha
    R^2 = E |s - E s|^2        D = E (t . u)^2,  u the unit vector along s - E s        s~ = (s, 1)

Since the last row of S is 1, W = V + kappa e satisfies S'W <= 0 and |V - T| = |W - (T + kappa e)|, so T - V is the
projection p of T + kappa e on the cone of the columns: 1/alpha = E|p|^2, and s = p_{1..D} / p_{D+1}, unique even where
T + kappa e lies in the cone. Where p = 0 the anchor is the point of the manifold nearest to being touched, the one with
the largest s . t, as in the papers.

D is the manifold's own number of dimensions: a frame with spare dimensions leaves alpha alone but not estimates of D_M
that compare directions (.82 in place of 1 on a segment).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.center_correlations import (
    center_correlation,
    least_correlated_rank,
    shared_directions,
    without,
)
from geomfeat.geometry.manifolds.cones.distant_points import blur_note
from geomfeat.geometry.manifolds.cones.project import project_on_cones
from geomfeat.geometry.manifolds.cones.span import of_solver, spread_of_rounding
from geomfeat.geometry.manifolds.point_clouds import CENTRE_ROUNDINGS, SUM_ROUNDINGS, Manifolds, as_manifolds
from geomfeat.numerics import WORKING, stream

# An anchor this near the mean anchor, relative to their size, does not move.
STILL = 1e-10


@dataclass(frozen=True, eq=False)
class ReplicaCapacity(BaseResult):
    """Mean-field capacity and geometry. A field `x_se` is the standard error of x over the draws; NaN: undefined.

    Attributes:
        capacity: 1 / mean of 1 / alpha_i over the manifolds. radius, dimension: means over the manifolds of R_i (in
            units of the centre's length) and D_i.
        capacities, radii, dimensions: (P,) alpha_i, R_i and D_i, NaN for a manifold without a centre direction.
        center_correlation: mean |cos| between centres minus the mean of all points, before anything is removed.
        residual_correlation: the same after `center_rank` shared directions have been removed.
        kappa: margin. n_draws: per manifold. n_uncertified: draws, of all manifolds, that were left out.
        notes: what limits these numbers, in sentences.

    `to_frame()`: one row for each manifold, and a first one, "all", of the whole: manifold, then capacity, radius
    and dimension with their errors.
    """

    capacity: float
    capacity_se: float
    radius: float
    radius_se: float
    dimension: float
    dimension_se: float
    center_correlation: float
    residual_correlation: float
    center_rank: int
    kappa: float
    n_draws: int
    n_uncertified: int
    capacities: Float[Tensor, "P"]
    capacities_se: Float[Tensor, "P"]
    radii: Float[Tensor, "P"]
    radii_se: Float[Tensor, "P"]
    dimensions: Float[Tensor, "P"]
    dimensions_se: Float[Tensor, "P"]
    notes: tuple[str, ...] = ()

    def _columns(self) -> dict[str, Any]:
        several = {"capacity": "capacities", "radius": "radii", "dimension": "dimensions"}
        columns: dict[str, Any] = {"manifold": ["all", *range(len(self.capacities))]}
        for name, each in several.items():
            for ending in ("", "_se"):
                columns[name + ending] = [getattr(self, name + ending), *getattr(self, each + ending).tolist()]
        return columns


@dataclass(frozen=True, eq=False)
class ReplicaAnchors:
    """s: anchors, from the centre. norms2: |p|^2. certified: which draws may be used."""

    s: Float[Tensor, "draws D"]
    norms2: Float[Tensor, "draws"]
    certified: Bool[Tensor, "draws"]


def replica_capacity(
    points: Any,
    labels: Any = None,
    *,
    kappa: float = 0.0,
    n_draws: int = 200,
    seed: int = 0,
    center_rank: int | str | None = None,
    device: str | torch.device | None = None,
) -> ReplicaCapacity:
    """Replica mean-field capacity, radius and dimension of labelled points, with the correlation of their centres.

    Args:
        points, labels: as for `capacity`. At least two classes; the mean of all points is always subtracted.
        kappa: margin >= 0, in units of each centre's length.
        n_draws: random directions per manifold. Equal seeds give equal directions, along each manifold's own axes from
            the longest on, so that layers and checkpoints are compared under common random numbers.
        center_rank: None (the data as they are), how many directions that the centres share to project out of the data
            (0..P-2), or "auto": the number that leaves the centres least correlated.

    Returns:
        `ReplicaCapacity`. A class whose mean is the mean of all points has no centre direction: NaN, and a note.

    Raises BadInput for points, labels or options that do not fit.

    >>> eye = torch.eye(8, dtype=torch.float64)
    >>> ends = torch.stack([eye[:4] + eye[4:], eye[:4] - eye[4:]], 1)      # 4 segments
    >>> found = replica_capacity(ends, n_draws=50)
    >>> [round(float(r), 1) for r in found.capacities / found.capacities], found.center_rank
    ([1.0, 1.0, 1.0, 1.0], 0)
    """
    # The numbers do not depend on the scale: in this one no square leaves the range of numbers.
    manifolds = as_manifolds(points, labels, device=device).rescaled()
    _check(manifolds, kappa, n_draws)
    blurred = blur_note(manifolds)
    # A centre shorter than this is the rounding of the points, of which a mean of many keeps less.
    fewest = int(torch.bincount(manifolds.owner).min())
    rounding = float(manifolds.rounding.max()) / fewest**0.5
    floor = CENTRE_ROUNDINGS * rounding + SUM_ROUNDINGS * torch.finfo(WORKING).eps
    x = manifolds.x - manifolds.x.mean(0)
    centers = _centers(x, manifolds)
    before = center_correlation(centers[_lengths(centers) > floor])
    rank = _rank(center_rank, centers, floor)
    if rank:
        x = without(x, shared_directions(centers, rank))
        centers = _centers(x, manifolds)
    there = _lengths(centers) > floor
    rows, bad = [], 0
    for i in range(manifolds.n_manifolds):
        if not bool(there[i]):
            rows.append([math.nan] * 6)
            continue
        mine = manifolds.owner == i
        noise = spread_of_rounding(manifolds.rounding[mine], x.shape[1])
        frame = manifold_frame(x[mine], centers[i], noise)
        t = _draws(n_draws, frame.shape[1], seed, i).to(x.device)
        found = replica_anchors(frame, t, kappa)
        bad += int((~found.certified).sum())
        rows.append(manifold_geometry(found, t))
    each = torch.tensor(rows, dtype=WORKING).T
    defined = bool((~each[0].isnan()).any())
    inverse, inverse_se = _mean(1 / each[0], each[1] / each[0].square()) if defined else (math.nan, math.nan)
    return ReplicaCapacity(
        1 / inverse, inverse_se / inverse**2, *_mean(each[2], each[3]), *_mean(each[4], each[5]),
        before, center_correlation(centers[there]), rank, float(kappa), int(n_draws), bad, *each.unbind(0),
        notes=(*_notes(manifolds, ~there, bad, int(n_draws), center_rank), *([blurred] if blurred else [])),
    )  # fmt: skip


def manifold_frame(points: Float[Tensor, "m r"], center: Float[Tensor, "r"], floor: float) -> Float[Tensor, "m D1"]:
    """(x - centre) / |centre| along the manifold's own axes, and a last coordinate 1. D = its rank.

    Axes longest first, each turned so that the third moment along it is positive: on data without ties the frame does
    not depend on the coordinates or the order of the points. `floor`: spreads below it are rounding.
    """
    u, spread, _ = torch.linalg.svd(points - center, full_matrices=False)
    kept = spread > max(floor, of_solver(spread, max(points.shape)))
    inside = u[:, kept] * spread[kept] / torch.linalg.vector_norm(center)
    turn = torch.where(inside.pow(3).sum(0) < 0, -1.0, 1.0).to(WORKING)
    return torch.cat([inside * turn, torch.ones_like(u[:, :1])], 1)


def replica_anchors(frame: Float[Tensor, "m D1"], t: Float[Tensor, "draws D1"], kappa: float = 0.0) -> ReplicaAnchors:
    """Anchor and |T - V|^2 of every direction T = t, for one manifold in its frame."""
    target = torch.cat([t[:, :-1], t[:, -1:] + kappa], 1)
    owner = torch.zeros(len(frame), dtype=torch.long, device=frame.device)
    found = project_on_cones(frame, owner, target, torch.ones_like(t[:, :1]))
    last = found.projection[:, -1:]
    carried = found.projection[:, :-1] / torch.where(last > 0, last, 1.0)
    # Where the projection is the origin, no weights tell the anchor: it is the point furthest along the direction.
    nearest = frame[(t[:, :-1] @ frame[:, :-1].T).argmax(1), :-1]
    return ReplicaAnchors(torch.where(last > 0, carried, nearest), found.norms2, found.certified)


def manifold_geometry(found: ReplicaAnchors, t: Float[Tensor, "draws D1"]) -> list[float]:
    """alpha, its standard error, R, its standard error, D, its standard error of one manifold."""
    norms2, s, along = found.norms2[found.certified], found.s[found.certified], t[found.certified, :-1]
    n = len(norms2)
    inverse = float(norms2.mean()) if n > 1 else math.nan
    if not inverse > 0:
        return [math.nan] * 6
    alpha = [1 / inverse, _stderr(norms2) / inverse**2]
    moved = s - s.mean(0)
    lengths = _lengths(moved)
    moving = lengths > STILL * _lengths(s).max() if s.shape[1] else lengths > 0
    if not bool(moving.any()):
        return [*alpha, 0.0, 0.0, 0.0, 0.0]
    square = lengths.square()
    radius = float((square.sum() / (n - 1)).sqrt())
    unit = moved * (moving / torch.where(moving, lengths, 1.0))[:, None]
    component = (along * unit).sum(1)
    # The mean anchor is itself an estimate: its error moves every unit vector (delta method).
    across = (along - component[:, None] * unit) / torch.where(moving, lengths, torch.inf)[:, None]
    slope = (-2 * component[:, None] * across).mean(0)
    influence = component.square() + moved @ slope
    return [*alpha, radius, _stderr(square) / (2 * radius), float(component.square().mean()), _stderr(influence)]


def _check(manifolds: Manifolds, kappa: float, n_draws: int) -> None:
    if manifolds.n_manifolds < 2:
        raise BadInput("one class: its centre is the mean of all points, which is subtracted; give two classes or more")
    if not (math.isfinite(kappa) and kappa >= 0):
        raise BadInput(f"kappa={kappa}: give a margin of at least 0, in units of a centre's length")
    if int(n_draws) != n_draws or n_draws < 2:
        raise BadInput(f"n_draws={n_draws}: give a whole number of at least 2 (200 is usual)")


def _rank(center_rank: int | str | None, centers: Tensor, floor: float) -> int:
    most = len(centers) - 2
    if center_rank is None:
        return 0
    if center_rank == "auto":
        return least_correlated_rank(centers, floor)
    if isinstance(center_rank, str) or int(center_rank) != center_rank or not 0 <= center_rank <= most:
        raise BadInput(
            f"center_rank={center_rank!r}: use None, 'auto', or a whole number up to {most} "
            f"({len(centers)} classes: more would leave their centres no direction)"
        )
    return int(center_rank)


def _draws(n_draws: int, width: int, seed: int, manifold: int) -> Float[Tensor, "draws D1"]:
    """Axis by axis, so that the first ones are the same whatever their number."""
    along = torch.randn(width - 1, n_draws, generator=stream(seed, "replica", manifold, "axes"), dtype=WORKING).T
    center = torch.randn(n_draws, 1, generator=stream(seed, "replica", manifold, "centre"), dtype=WORKING)
    return torch.cat([along, center], 1)


def _centers(x: Tensor, manifolds: Manifolds) -> Tensor:
    total = torch.zeros(manifolds.n_manifolds, x.shape[1], dtype=WORKING, device=x.device)
    total.index_add_(0, manifolds.owner, x)
    return total / torch.tensor(manifolds.sizes, dtype=WORKING, device=x.device)[:, None]


def _lengths(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1)


def _mean(values: Tensor, errors: Tensor) -> tuple[float, float]:
    """Mean over the manifolds where it is defined, and its standard error (their draws are independent)."""
    kept = ~values.isnan()
    n = int(kept.sum())
    return (float(values[kept].mean()), float(errors[kept].square().sum().sqrt()) / n) if n else (math.nan, math.nan)


def _stderr(values: Tensor) -> float:
    return float(values.std() / math.sqrt(len(values)))


def _notes(
    manifolds: Manifolds, without_center: Tensor, bad: int, n_draws: int, center_rank: int | str | None
) -> tuple[str, ...]:
    p = manifolds.n_manifolds
    missing, single = int(without_center.sum()), sum(size == 1 for size in manifolds.sizes)
    out = []
    if missing:
        out.append(f"{missing} of {p} classes have no centre apart from the mean of all points: left out (NaN)")
    if bad:
        out.append(f"{bad} of {p * n_draws} draws not certified, left out")
    if p == 2:
        out.append("two classes have opposite centres by construction: their correlation is 1 and says nothing")
    if p == 2 and center_rank == "auto":
        out.append("two centres share no direction that could be removed: center_rank 0")
    if single:
        out.append(f"{single} of {p} classes have a single point: radius and dimension 0")
    return tuple(out)
