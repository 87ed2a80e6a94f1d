"""Anchors: the point of every manifold's hull that a projection rests on, with their means (centres) and axes."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.geometry.manifolds.cones.project import ConeProjections
from geomfeat.numerics import WORKING

# An axis below this share of its anchor's length is rounding: the manifold always answers with the same anchor.
NO_AXIS = 1e-10
# So is one below this many roundings of the points.
ROUNDINGS = 2.0
# Numbers of all axes that are kept, since several parts of the geometry ask for them.
MOST_KEPT = 2**23


@dataclass(frozen=True, eq=False)
class Anchors:
    """Anchors of every draw.

    Attributes:
        s: anchors, 0 where inactive. active: which manifolds carry p. centres: mean anchors. used: draws that count.
        parts: what each manifold contributes to |p|^2, y_i sum_j l_ij x_ij . p, in every draw; the sum is |p|^2.
        rounding: largest rounding error of a manifold's points.
        shift: what to add to s and centres to get those of the points as they are; None where they are these.
    """

    s: Float[Tensor, "draws P r"]
    active: Bool[Tensor, "draws P"]
    centers: Float[Tensor, "P r"]
    used: Bool[Tensor, "draws"]
    parts: Float[Tensor, "draws P"]
    rounding: Float[Tensor, "P"]
    shift: Float[Tensor, "r"] | None = None

    def axes(self, rows: Tensor | slice) -> Float[Tensor, "m P r"]:
        """s1 of some draws, 0 where inactive or where the anchor never moves; to be read only."""
        return self._every_axis[rows] if self.s.numel() <= MOST_KEPT else self._axes(rows)

    @cached_property
    def _every_axis(self) -> Float[Tensor, "draws P r"]:
        return self._axes(slice(None))

    def _axes(self, rows: Tensor | slice) -> Float[Tensor, "m P r"]:
        s, active = self.s[rows], self.active[rows]
        size = torch.linalg.vector_norm(s, dim=2) + torch.linalg.vector_norm(self.centers, dim=1)
        axis = (s - self.centers).mul_(active[:, :, None])
        least = torch.maximum(NO_AXIS * size, ROUNDINGS * self.rounding)
        return axis.mul_((torch.linalg.vector_norm(axis, dim=2) > least)[:, :, None])

    def through_centres(self, slope: Float[Tensor, "P r"]) -> Float[Tensor, "draws"]:
        """Influence of each draw on a number that moves by `slope` with the centres."""
        # A manifold that is never active has no influence: 0 / 1e-300 is 0, and 0 / 0 would be NaN.
        share = self.active.to(WORKING).mean(0).clamp_min(1e-300)
        along = torch.einsum("dpr,pr->dp", self.s, slope) - (self.centers * slope).sum(1)
        return (along * self.active / share).sum(1)

    def take(self, rows: Bool[Tensor, "draws"]) -> "Anchors":
        """The same manifolds and centres, some of the draws (a mask)."""
        if bool(rows.all()):
            return self
        s, active, used, parts = (value[rows] for value in (self.s, self.active, self.used, self.parts))
        return replace(self, s=s, active=active, used=used, parts=parts)


def anchors_of(
    x: Float[Tensor, "k r"],
    owner: Int[Tensor, "k"],
    y: Float[Tensor, "draws P"],
    found: ConeProjections,
    *,
    used: Bool[Tensor, "draws"] | None = None,
    rounding: Float[Tensor, "k"] | None = None,
    shift: Float[Tensor, "r"] | None = None,
) -> Anchors:
    """Anchors of every draw; centres over the draws that are `used` (None: certified and outside their cones).

    `shift`: what the projections' points are away from x.
    """
    draws, n_manifolds = y.shape
    noise = torch.zeros(n_manifolds, dtype=WORKING, device=x.device)
    if rounding is not None:
        noise = noise.scatter_reduce(0, owner, rounding, "amax")
    here = found.multipliers > 0
    point, weight = found.support[here], found.multipliers[here]
    draw = torch.arange(draws, device=x.device)[:, None].expand_as(found.support)[here]
    place = draw * n_manifolds + owner[point]
    total = torch.zeros(draws * n_manifolds, dtype=WORKING, device=x.device).index_add_(0, place, weight)
    shares = torch.sparse_coo_tensor(
        torch.stack([place, point]), weight / total[place], (draws * n_manifolds, len(x)), check_invariants=False
    )
    s = torch.sparse.mm(shares, x).reshape(draws, n_manifolds, -1)
    total = total.reshape(draws, n_manifolds)
    parts = torch.einsum("dpr,dr->dp", s, found.projection)
    parts = (parts if shift is None else parts + (found.projection @ shift)[:, None]) * total * y
    used = found.certified & ~found.inside if used is None else used
    active = (total > 0) & used[:, None]
    s.mul_(active[:, :, None])
    return Anchors(s, active, s.sum(0) / active.sum(0).clamp_min(1)[:, None], used, parts, noise, shift)
