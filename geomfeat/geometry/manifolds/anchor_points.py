"""Anchors: the point of every manifold's hull that a projection rests on, with their means (centres) and axes.

An anchor is a sum of few points. Only these and their weights are kept: `_numba.anchor_axes` makes the anchors of one
draw at a time and takes from them what is wanted. On the CPU, wherever the points lie.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat._numba.threads import in_threads
from geomfeat.geometry.manifolds.cones.project import ConeProjections
from geomfeat.numerics import WORKING, matmul

TINY = torch.finfo(WORKING).tiny


@dataclass(frozen=True, eq=False)
class Seen:
    """What every draw says of its anchors, 0 where inactive; see `_numba.anchor_axes.see`."""

    norm: Float[Tensor, "draws P"]
    along: Float[Tensor, "draws P"]
    carried: Float[Tensor, "draws P"]
    length: Float[Tensor, "draws P"]
    cosine: Float[Tensor, "draws P P"]
    across: Float[Tensor, "draws P P"]
    b: Float[Tensor, "draws"]
    c: Float[Tensor, "draws"]
    w_b: Float[Tensor, "draws P"]
    w_c: Float[Tensor, "draws P"]
    q_b: Float[Tensor, "draws r"]
    q_c: Float[Tensor, "draws r"]
    clear: Bool[Tensor, "draws"]


@dataclass(frozen=True, eq=False)
class Anchors:
    """Anchors of every draw.

    Attributes:
        centers: mean anchors. points: those that carry any anchor, manifold by manifold, less their centre; sizes (P,):
            how many of each.
        start, index, weight, owner: less their centres, the anchors of draw d are sums of points index[e] with weights
            weight[e] of manifolds owner[e], e from start[d] to start[d + 1].
        active: which manifolds carry p. used: draws that count; the others have no active ones.
        total: sums of their multipliers, with the sign of their manifold.
        t, p: directions and projections.
        rounding: largest rounding error of a manifold's points.
        shift: what to add to anchors and centres to get those of the points as they are; None where they are these.
    """

    centers: Float[Tensor, "P r"]
    points: Float[Tensor, "u r"]
    sizes: Int[Tensor, "P"]
    start: Int[Tensor, "draws_plus_1"]
    index: Int[Tensor, "e"]
    weight: Float[Tensor, "e"]
    owner: Int[Tensor, "e"]
    active: Bool[Tensor, "draws P"]
    used: Bool[Tensor, "draws"]
    total: Float[Tensor, "draws P"]
    t: Float[Tensor, "draws r"]
    p: Float[Tensor, "draws r"]
    rounding: Float[Tensor, "P"]
    shift: Float[Tensor, "r"] | None = None

    @cached_property
    def size(self) -> Float[Tensor, "P"]:
        """Lengths of the centres."""
        return torch.linalg.vector_norm(self.centers, dim=1)

    @cached_property
    def unit(self) -> Float[Tensor, "P r"]:
        """The centres over their lengths."""
        return self.centers / self.size.clamp_min(TINY)[:, None]

    @property
    def share(self) -> Float[Tensor, "P"]:
        """Share of the draws in which a manifold is active; above 0, so that what never is has no influence."""
        return self.active.to(WORKING).mean(0).clamp_min(1e-300)

    @property
    def parts(self) -> Float[Tensor, "draws P"]:
        """What each manifold contributes to |p|^2, y_i sum_j l_ij x_ij . p, in every draw; the sum is |p|^2."""
        return self.seen.carried * self.total

    @cached_property
    def seen(self) -> Seen:
        """What the draws say of their anchors."""
        from geomfeat._numba.anchor_axes import see

        (draws, n_manifolds), r = self.active.shape, self.points.shape[1]
        centers, shift = self.centers, self.points.new_zeros(r) if self.shift is None else self.shift
        there = centers + shift
        facing = there / torch.linalg.vector_norm(there, dim=1).clamp_min(TINY)[:, None]
        known = (*self.sparse, self.used, centers, self.unit, matmul(centers, centers.T), shift, facing, self.rounding)
        shapes = [(n_manifolds,)] * 4 + [(n_manifolds, n_manifolds)] * 2 + [()] * 2 + [(n_manifolds,)] * 2 + [(r,)] * 2
        made = [np.zeros((draws, *shape)) for shape in shapes] + [np.ones(draws, np.bool_)]
        given = [np.ascontiguousarray(a.numpy()) for a in (*known, self.t, self.p)]
        in_threads(lambda i, j: see(*[*given, *made, i, j]), draws)
        return Seen(*map(torch.from_numpy, made))

    @property
    def sparse(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """points, start, index, weight, owner."""
        return self.points, self.start, self.index, self.weight, self.owner

    @property
    def s(self) -> Float[Tensor, "draws P r"]:
        """All anchors, 0 where inactive."""
        return self.of(torch.arange(len(self.active)))

    def of(self, rows: Int[Tensor, "m"]) -> Float[Tensor, "m P r"]:
        """The anchors of some draws, 0 where inactive."""
        return (self._moved(rows) + self.centers) * self.active[rows][:, :, None]

    def axes(self, rows: Int[Tensor, "m"]) -> Float[Tensor, "m P r"]:
        """s1 of some draws, 0 where inactive or where the anchor never moves."""
        return self._moved(rows) * (self.seen.length[rows] > 0)[:, :, None]

    def _moved(self, rows: Tensor) -> Tensor:
        place = torch.full((len(self.active),), -1).index_copy_(0, rows, torch.arange(len(rows)))[self.draw]
        some, n_manifolds = place >= 0, len(self.centers)
        out = self.points.new_zeros(len(rows) * n_manifolds, self.points.shape[1])
        where = place[some] * n_manifolds + self.owner[some]
        out.index_add_(0, where, self.points[self.index[some]] * self.weight[some, None])
        return out.reshape(len(rows), n_manifolds, -1)

    @property
    def draw(self) -> Int[Tensor, "e"]:
        """Which draw each weight is of."""
        return torch.repeat_interleave(torch.arange(len(self.active)), self.start.diff())

    def through_centres(self, *slopes: Float[Tensor, "P r"]) -> list[Float[Tensor, "draws"]]:
        """Influence of each draw on numbers that move by these slopes with the centres."""
        stacked, blocks = torch.stack(slopes, 2), self.points.split(self.sizes.tolist())
        along = torch.cat([block @ slope for block, slope in zip(blocks, stacked, strict=True)])
        moved = along[self.index] * (self.weight / self.share[self.owner])[:, None]
        return list(torch.zeros(len(self.active), len(slopes), dtype=WORKING).index_add_(0, self.draw, moved).T)


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
    (draws, n_manifolds), k = y.shape, len(x)
    used = (found.certified & ~found.inside if used is None else used).cpu()
    x, owner, y, support, l = (a.cpu() for a in (x, owner, y, found.support, found.multipliers))
    noise = torch.zeros(n_manifolds, dtype=WORKING)
    if rounding is not None:
        noise = noise.scatter_reduce(0, owner, rounding.cpu(), "amax")
    here = (l > 0) & used[:, None]
    draw = torch.nonzero(here)[:, 0]
    point, l = support[here], l[here]
    of = owner[point]
    place = draw * n_manifolds + of
    total = torch.zeros(draws * n_manifolds, dtype=WORKING).index_add_(0, place, l)
    weight = l / total[place]
    total = total.reshape(draws, n_manifolds)
    active = total > 0
    # Manifold by manifold, those that carry anything.
    order = torch.argsort(owner, stable=True)
    carries = torch.zeros(k, dtype=torch.bool).index_fill_(0, point, True)
    order = order[carries[order]]
    points, sizes = x[order], torch.bincount(owner[order], minlength=n_manifolds)
    index = torch.zeros(k, dtype=torch.long).index_copy_(0, order, torch.arange(len(order)))[point]
    mean = torch.zeros(len(order), dtype=WORKING).index_add_(0, index, weight / active.sum(0).clamp_min(1)[of])
    centers = x.new_zeros(n_manifolds, x.shape[1])
    for i, (block, share) in enumerate(zip(points.split(sizes.tolist()), mean.split(sizes.tolist()), strict=True)):
        centers[i] = share @ block
        block -= centers[i]
    start = torch.zeros(draws + 1, dtype=torch.long)
    torch.cumsum(here.sum(1), 0, out=start[1:])
    p = found.projection.cpu()
    return Anchors(
        centers, points, sizes, start, index, weight, of, active, used, total * y, p + found.residual.cpu(),
        p, noise, None if shift is None else shift.cpu(),
    )  # fmt: skip
