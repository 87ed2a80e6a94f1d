"""The cone problem of some points, solved for all draws; and the same without some of the points, from that solution.

Leaving points out makes every cone smaller. A projection that rests on none of them stays in the smaller cone, and was
the nearest point of the larger one: it is the projection still, with the same multipliers. Only the draws that rest on
a point that is left out are solved again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geomfeat.geometry.manifolds.anchor_points import Anchors, anchors_of
from geomfeat.geometry.manifolds.anchor_uniqueness import ambiguous
from geomfeat.geometry.manifolds.cones.distant_points import Far, around_mean, blur_note, brought_near, project_far
from geomfeat.geometry.manifolds.cones.least_norm_multipliers import least_norm
from geomfeat.geometry.manifolds.cones.project import INSIDE, ConeProjections, project_on_cones
from geomfeat.geometry.manifolds.cones.span import Span, in_span
from geomfeat.geometry.manifolds.point_clouds import Manifolds
from geomfeat.geometry.manifolds.random_directions import Draws


@dataclass(frozen=True, eq=False)
class Placed:
    """Points as they are solved for: once in their class, in coordinates of their span; `far` if brought nearer.

    unit: what lengths were divided by. blurred: what to say of points whose differences are partly rounding.
    """

    manifolds: Manifolds
    span: Span
    far: Far | None
    unit: float
    blurred: str

    def draws(self, draws: Draws) -> Draws:
        """Directions of the space that the points came from, in coordinates of the span."""
        device = self.span.x.device
        t, y = self.span.coordinates(draws.t.to(device)), draws.y.to(device)
        return Draws(t, y, None if draws.strata is None else draws.strata.to(device))

    def project(self, t: Float[Tensor, "draws r"], y: Float[Tensor, "draws P"]) -> ConeProjections:
        """Projections on the cones of all points."""
        return _projected(self.manifolds.x, self.manifolds.owner, t, y, self.far)


def placed(manifolds: Manifolds) -> Placed:
    """Points in the form in which they are solved for.

    The order matters: copies are found before any rounding, far clouds are brought near before their span is taken, and
    the span is taken last, because directions far smaller than the offset would be cut away with it.
    """
    unit, manifolds = manifolds.unit, manifolds.without_copies().rescaled()
    mean, distance = around_mean(manifolds.x)
    blurred = blur_note(manifolds, distance)
    manifolds, far = brought_near(manifolds, (mean, distance))
    span = in_span(manifolds.x, manifolds.rounding)
    return Placed(replace(manifolds, x=span.x), span, far.in_span(span) if far else None, unit, blurred)


@dataclass(frozen=True, eq=False)
class Solved:
    """All draws of a problem.

    Attributes:
        manifolds, draws: in coordinates of the span; those of `far` points are the nearer ones. rank: of all points.
        found: the projections. chosen: the same with the multipliers of least norm in the draws that are `unsure`
            (other points could carry the projection too); settled: in which these are certified.
        lost: draws inside their cone, with many multipliers. here: which points there are.
    """

    manifolds: Manifolds
    rank: int
    draws: Draws
    far: Far | None
    found: ConeProjections
    chosen: ConeProjections
    unsure: Bool[Tensor, "draws"]
    settled: Bool[Tensor, "draws"]
    lost: Bool[Tensor, "draws"]
    here: Bool[Tensor, "k"]

    def take(self, rows: slice) -> "Solved":
        """The same points, some of the draws."""
        parts = (self.unsure, self.settled, self.lost)
        unsure, settled, lost = (part[rows] for part in parts)
        found, chosen = (_some(one, rows) for one in (self.found, self.chosen))
        return replace(
            self, draws=self.draws.take(rows), found=found, chosen=chosen, unsure=unsure, settled=settled, lost=lost
        )

    @property
    def anchors(self) -> Anchors:
        """Anchors of the certified draws."""
        x, rounding, shift, chosen = self.manifolds.x, self.manifolds.rounding, None, self.chosen
        used, y, sure = ~self.lost & (self.settled | ~self.unsure), self.draws.y, self.found.certified
        if self.far:
            x, shift = self.far.for_geometry(x)
            chosen, rounding = self.far.of_points(chosen, self.draws.t), rounding * self.far.eta
        if not bool(sure.all()):
            used, y, chosen = used[sure], y[sure], _some(chosen, sure)
        return anchors_of(x, self.manifolds.owner, y, chosen, used=used, rounding=rounding, shift=shift)

    @property
    def one_sided(self) -> bool:
        """Whether the points are far and all labels of any draw equal, so that the radius falls with their distance."""
        y = self.draws.y
        return self.far is not None and bool((y.amax(1) == y.amin(1)).all())

    def without(self, gone: Bool[Tensor, "k"]) -> "Solved":
        """The same problem without some of the points; every class must still have one.

        >>> from geomfeat.geometry.manifolds import as_manifolds
        >>> from geomfeat.geometry.manifolds.random_directions import random_draws
        >>> some = placed(as_manifolds(torch.eye(4, dtype=torch.float64).reshape(2, 2, 4)))
        >>> draws = some.draws(random_draws(20, 4, 2, "random", 0))
        >>> every = solved(some, draws, some.project(draws.t, draws.y))
        >>> fewer = every.without(torch.tensor([True, False, False, False]))
        >>> bool((fewer.found.norms2 <= every.found.norms2).all()), int(fewer.found.support.min())
        (True, -1)
        """
        here = self.here & ~gone
        kept = torch.nonzero(here)[:, 0]
        x, owner, y = self.manifolds.x[kept], self.manifolds.owner[kept], self.draws.y
        hit = _rests_on(self.found, gone) | _rests_on(self.chosen, gone) | ~self.found.certified
        rows = torch.nonzero(hit)[:, 0]
        found, chosen, unsure, settled = self.found, self.chosen, self.unsure.clone(), self.settled.clone()
        if len(rows):
            new = _projected(x, owner, self.draws.t[rows], y[rows], self.far)
            unsure[rows] = ambiguous(x, owner, y[rows], new)
            best, settled[rows] = least_norm(x, owner, y[rows], new, unsure[rows])
            found, chosen = (
                with_rows(whole, rows, replace(part, support=_renumbered(part.support, kept)))
                for whole, part in ((found, new), (chosen, best))
            )
        lengths = torch.linalg.vector_norm(x, dim=1)
        # What touched the supporting plane of a draw before does still; what did not may be gone.
        inside = found.inside | self._inside_without(found, hit, x, lengths)
        dependent = int((lengths > 0).sum()) > self.rank or not _independent(x[lengths > 0])
        found = replace(found, inside=inside)
        return replace(
            self, found=found, chosen=chosen, unsure=unsure, settled=settled, lost=inside & dependent, here=here
        )

    def _inside_without(self, found: ConeProjections, hit: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
        """Draws that were solved before, whose residual none of the remaining points sees."""
        rows = torch.nonzero(~hit & ~found.inside)[:, 0]
        out = torch.zeros_like(found.inside)
        if len(rows):
            size = (found.norms2[rows] + found.residual[rows].square().sum(1)).sqrt()
            seen = (found.residual[rows] @ x.T).abs() > INSIDE * size[:, None] * lengths
            out[rows] = ~(seen & (lengths > 0)).any(1)
        return out


def solved(place: Placed, draws: Draws, found: ConeProjections) -> Solved:
    """What is read from projections `found` of `draws`, both in coordinates of the span."""
    x, owner = place.manifolds.x, place.manifolds.owner
    there = (x != 0).any(1)
    # Inside its cone t has one set of multipliers if the points are linearly independent, and many if they are not.
    lost = found.inside & (int(there.sum()) > place.span.rank)
    unsure = ambiguous(x, owner, draws.y, found)
    chosen, settled = least_norm(x, owner, draws.y, found, unsure)
    here = torch.ones(len(x), dtype=torch.bool, device=x.device)
    return Solved(place.manifolds, place.span.rank, draws, place.far, found, chosen, unsure, settled, lost, here)


def with_rows(found: ConeProjections, rows: Tensor, new: ConeProjections) -> ConeProjections:
    """`found` with some rows replaced; supports may be of different widths."""
    a, b = _as_wide([found, new])
    kept = {f.name for f in fields(a) if isinstance(getattr(a, f.name), Tensor)}
    out = {name: getattr(a, name).index_copy(0, rows, getattr(b, name)) for name in kept}
    return replace(a, **out, n_fallback=a.n_fallback + b.n_fallback)


def _some(found: ConeProjections, rows: slice | Tensor) -> ConeProjections:
    return replace(found, **{name: v[rows] for name, v in vars(found).items() if isinstance(v, Tensor)})


def joined(parts: Sequence[ConeProjections]) -> ConeProjections:
    """Projections of some draws and of more, one after the other."""
    wide = _as_wide(parts)
    if len(wide) == 1:
        return wide[0]
    columns = {f.name: [getattr(part, f.name) for part in wide] for f in fields(ConeProjections)}
    fallbacks = sum(columns.pop("n_fallback"))
    return ConeProjections(**{name: torch.cat(column) for name, column in columns.items()}, n_fallback=fallbacks)


def _as_wide(parts: Sequence[ConeProjections]) -> list[ConeProjections]:
    width = max(part.support.shape[1] for part in parts)
    pad = torch.nn.functional.pad
    return [
        replace(
            part, support=pad(part.support, (0, width - part.support.shape[1]), value=-1),
            multipliers=pad(part.multipliers, (0, width - part.multipliers.shape[1])),
        )
        for part in parts
    ]  # fmt: skip


def _projected(x: Tensor, owner: Tensor, t: Tensor, y: Tensor, far: Far | None) -> ConeProjections:
    return project_far(x, owner, t, y, far) if far else project_on_cones(x, owner, t, y)


def _rests_on(found: ConeProjections, points: Bool[Tensor, "k"]) -> Bool[Tensor, "draws"]:
    used = (found.support >= 0) & (found.multipliers > 0)
    return (points[found.support.clamp_min(0)] & used).any(1)


def _renumbered(support: Tensor, kept: Tensor) -> Tensor:
    return torch.where(support >= 0, kept[support.clamp_min(0)], -1)


def _independent(x: Tensor) -> bool:
    """Whether no more points than dimensions are linearly independent."""
    unit = x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return bool(torch.linalg.matrix_rank(unit) == len(x))
