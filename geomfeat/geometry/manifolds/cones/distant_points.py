"""Points far from the origin, next to how far they are from each other: the cone problem without the lost digits.

A cone does not care how long its points are. Points x_j = m + d_j with |d_j| much below |m| are, for a cone, nearly one
and the same point, and a solver's tolerance for points of unit length leaves nothing of their differences. With u the
direction of m, a_j = x_j . u and r_j the rest of d_j across u, take points that are nearer by eta < 1,

    z_j = a_j u + r_j / eta,

and solve for them with another target g: t moved along u, with theta = g . u in the place of t . u. The projection q of
g with residual w = g - q fulfils the conditions of the projection p of t on the cone of the x_j with residual v, where

    p . u = q . u / eta,    v . u = eta (w . u),    the same across u,

exactly if p . u + v . u = t . u: one equation for theta, whose left side rises with theta. The limit of eta to 0 is the
projection across u on the cone of all differences of points of unlike signs, and the whole of t along u.

The anchors move with the points. Dimension, radius and alignments lose digits where centres are far longer than axes,
and near their limits change with the inverse of that length: they are taken at FAR_ENOUGH times the points' distances.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.cones.project import ConeProjections, project_on_cones
from geomfeat.geometry.manifolds.cones.span import Span
from geomfeat.geometry.manifolds.glue_geometry import Glue
from geomfeat.geometry.manifolds.point_clouds import Manifolds
from geomfeat.precision import is_constant

# The largest distance from the mean over the length of the mean: below FAR points are solved apart, as if it was NEAR.
FAR, NEAR = 2.0**-12, 2.0**-4
FAR_ENOUGH = 2.0**18
IN_CACHE = 2**16
# Rounding of the points over their distance from the mean (rms lengths) from which on it shows in the numbers.
SOME = 1 / 20
# Error of the equation for theta, relative to |t|: aimed at, and certain, as the projections themselves are. A bracket
# this narrow, relative to |t|, holds a step that the solver's tolerance makes.
SOLVED, CERTAIN, NARROW, ROUNDS = 1e-12, 1e-10, 1e-14, 120


@dataclass(frozen=True, eq=False)
class Far:
    """axis: the direction of the mean in the coordinates of the points. eta: see above. length: of the mean."""

    axis: Float[Tensor, "r"]
    eta: float
    length: float

    def in_span(self, span: Span) -> "Far":
        """The same in the coordinates of the points' span."""
        axis = span.coordinates(self.axis[None])[0]
        return replace(self, axis=axis / torch.linalg.vector_norm(axis))

    def across(self, z: Float[Tensor, "k r"], share: float, length: float) -> Float[Tensor, "k r"]:
        """Points z with this share of what is across the axis, and a mean of this length."""
        along = z @ self.axis
        rest = z - along[:, None] * self.axis
        return share * rest + (along - self.length + length)[:, None] * self.axis

    @property
    def shortened(self) -> float:
        """What to multiply the length of the mean with, to have it at FAR_ENOUGH times the points' distances."""
        return min(1.0, FAR_ENOUGH * NEAR * self.eta)

    def of_one_side(self, glue: Glue) -> Glue:
        """The geometry where all labels of any draw are equal: its radius has no limit but falls with the length."""
        by, square = self.shortened, self.shortened**2
        return replace(
            glue, radius=glue.radius * by, radius_se=glue.radius_se * by,
            radius_mean=glue.radius_mean * by, radius_mean_se=glue.radius_mean_se * by,
            utility=glue.utility * square, utility_se=glue.utility_se * square,
        )  # fmt: skip

    def for_geometry(self, z: Float[Tensor, "k r"]) -> tuple[Float[Tensor, "k r"], Float[Tensor, "r"]]:
        """The points as they are, but at FAR_ENOUGH times their distances, and what they were shifted by."""
        length = self.length * self.shortened
        return self.across(z, self.eta, length), (self.length - length) * self.axis

    def of_points(self, found: ConeProjections, t: Float[Tensor, "draws r"]) -> ConeProjections:
        """The projections for the nearer points as those for the points."""
        along, back = t @ self.axis, found.residual @ self.axis
        residual = found.residual + ((self.eta - 1) * back)[:, None] * self.axis
        projection = found.projection + (along - self.eta * back - found.projection @ self.axis)[:, None] * self.axis
        return replace(
            found, projection=projection, residual=residual, norms2=projection.square().sum(1),
            multipliers=found.multipliers / self.eta,
        )  # fmt: skip


def around_mean(x: Float[Tensor, "k r"]) -> tuple[Float[Tensor, "r"], Float[Tensor, "k"]]:
    """The mean of points, and how far each is from it."""
    mean = x.mean(0)
    # In parts that stay in a cache.
    parts = x.split(max(1, IN_CACHE // x.shape[1]))
    return mean, torch.cat([torch.linalg.vector_norm(part - mean, dim=1) for part in parts])


def brought_near(manifolds: Manifolds, around: tuple[Tensor, Tensor] | None = None) -> tuple[Manifolds, Far | None]:
    """The points, or the nearer ones if they are far from the origin next to their distances from each other.

    Features that are constant up to the rounding of the data are made so; equal points stay as they are. `around`: what
    `around_mean` says of them, where that is known.

    >>> from geomfeat.geometry.manifolds import as_manifolds
    >>> x = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> near, far = brought_near(as_manifolds(x + 1e9))
    >>> far is not None and bool(near.x.std(0).max() > 1e6)
    True
    """
    x = manifolds.x
    mean, distance = around_mean(x) if around is None else around
    length = float(torch.linalg.vector_norm(mean))
    if not length > 0 or float(distance.max()) > FAR * length:
        return manifolds, None
    # Near the mean, the difference of two float64 is exact, so that no digit of the points is lost here.
    moved = x - mean
    constant = is_constant(moved.square().mean(0).sqrt(), mean.abs(), manifolds.precision)
    moved = torch.where(constant, 0.0, moved - moved.mean(0))
    longest = float(torch.linalg.vector_norm(moved, dim=1).max())
    if not longest > 0:
        return manifolds, None
    axis, eta = mean / length, longest / length / NEAR
    along = moved @ axis
    across = (moved - along[:, None] * axis) / eta
    across -= (across @ axis)[:, None] * axis
    nearer = replace(manifolds, x=mean + along[:, None] * axis + across, rounding=manifolds.rounding / eta)
    return nearer, Far(axis, eta, length)


def blur_note(manifolds: Manifolds, distance: Float[Tensor, "k"] | None = None) -> str:
    """What to say of points whose differences are partly rounding, if they are; `distance`: from their mean, if known.

    Raises BadInput where the points are one point up to the rounding of their precision.
    """
    distance = around_mean(manifolds.x)[1] if distance is None else distance
    spread, rounding = (v.square().mean().sqrt() for v in (distance, manifolds.rounding))
    if rounding <= SOME * spread or not spread > 0:
        return ""
    size, share = rounding / torch.finfo(manifolds.precision).eps, float(rounding / spread)
    what = (
        f"the points lie {float(size / spread):.2g} times their spread from the origin, where {manifolds.precision} "
        f"rounds them by up to {100 * share:.2g} % of the spread"
    )
    if bool(is_constant(spread, size, manifolds.precision)):
        raise BadInput(f"{what}: they are one point, rounded. Subtract the common offset before it is rounded")
    return f"{what}: their differences are partly rounding; subtract the common offset before it is rounded"


def project_far(
    z: Float[Tensor, "k r"], owner: Tensor, t: Float[Tensor, "draws r"], y: Float[Tensor, "draws P"], far: Far
) -> ConeProjections:
    """Projections for the nearer points z with the targets that make them those of t for the points; norms2 of these.

    Raises BadInput as `project_on_cones`.
    """
    eta, axis = far.eta, far.axis
    along, size = t @ axis, torch.linalg.vector_norm(t, dim=1)
    polar = (((t + (eta - 1) * (t - along[:, None] * axis)) @ z.T) * y[:, owner] <= 0).all(1)
    root = _Root(torch.where(polar, along / eta, eta * along))
    todo = torch.arange(len(t), device=t.device)

    def solved(rows: Tensor) -> tuple[ConeProjections, Tensor]:
        target = t[rows] + (root.at[rows] - along[rows])[:, None] * axis
        new = project_on_cones(z, owner, target, y[rows])
        return new, new.projection @ axis + eta**2 * (new.residual @ axis) - eta * along[rows]

    found, excess = solved(todo)
    for _ in range(ROUNDS):
        todo = todo[(excess[todo].abs() > SOLVED * size[todo]) & ~root.narrow(todo, NARROW * size[todo])]
        if not len(todo):
            break
        root.step(todo, excess[todo], eta**2)
        new, excess[todo] = solved(todo)
        found = _with(found, todo, new)
    # The side on which a class carries the projection, where the share it carries is below the solver's tolerance.
    bare = torch.nonzero((found.faces == 0) & ~polar & (excess.abs() > SOLVED * size))[:, 0]
    if len(bare):
        root.outwards(bare, along[bare] > 0)
        new, excess[bare] = solved(bare)
        found = _with(found, bare, new)
    violation = torch.maximum(found.violation, excess.abs() / size.clamp_min(1e-300))
    certified = found.certified & (violation <= CERTAIN)
    # What touches the plane of the nearer points is judged anew, next to the lengths of the points.
    return replace(
        found, violation=violation, certified=certified, norms2=far.of_points(found, t).norms2,
        alone=torch.zeros_like(certified),
    )  # fmt: skip


class _Root:
    """Roots of functions that rise with slopes between a least one and 1, of straight pieces, some of them nearly flat.

    Every side of a root goes on from its own last two places, which is exact on a straight piece; in turns the nearest
    side does, the other side, and the middle of the bracket.
    """

    def __init__(self, start: Tensor) -> None:
        self.at, self.taken = start.clone(), 0
        nowhere = torch.full_like(start, torch.nan)
        # Last place and value, and those before, on the side below (0) and above the root (1).
        self.seen = torch.stack([nowhere] * 4)[None].repeat(2, 1, 1)

    def bracket(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest places below and above the roots."""
        return self.seen[0, 0, rows].nan_to_num(-torch.inf), self.seen[1, 0, rows].nan_to_num(torch.inf)

    def narrow(self, rows: Tensor, width: Tensor) -> Tensor:
        """In which rows the bracket has closed."""
        low, high = self.bracket(rows)
        return high - low <= width

    def outwards(self, rows: Tensor, upwards: Tensor) -> None:
        """To the upper or the lower end of the bracket, where it has one."""
        end = torch.where(upwards, self.seen[1, 0, rows], self.seen[0, 0, rows])
        self.at[rows] = torch.where(end.isnan(), self.at[rows], end)

    def step(self, rows: Tensor, value: Tensor, least: float) -> None:
        """The next place in some rows, where the functions have this value."""
        here, side = self.at[rows], (value > 0).long()
        self.seen[side, 2:, rows] = self.seen[side, :2, rows]
        self.seen[side, 0, rows], self.seen[side, 1, rows] = here, value
        low, high = self.bracket(rows)
        halves = (low + high) / 2
        ahead, behind = (self._onwards(which, rows, least) for which in (side, 1 - side))
        first, second = (ahead, behind) if self.taken % 3 == 0 else (behind, ahead)
        there = torch.where((second > low) & (second < high), second, halves)
        there = torch.where((first > low) & (first < high), first, there)
        if self.taken % 3 == 2:
            there = torch.where(halves.isfinite(), halves, there)
        self.at[rows], self.taken = there, self.taken + 1

    def _onwards(self, side: Tensor, rows: Tensor, least: float) -> Tensor:
        """The root as the last two places on one side have it; NaN where there is none."""
        place, value, place0, value0 = self.seen[side, :, rows].T
        return place - value / ((value - value0) / (place - place0)).nan_to_num(1.0).clamp(least, 1.0)


def _with(found: ConeProjections, rows: Tensor, new: ConeProjections) -> ConeProjections:
    """`found` with some rows replaced."""
    width = max(found.support.shape[1], new.support.shape[1])
    out = {}
    for name, value in vars(found).items():
        if isinstance(value, Tensor):
            more = getattr(new, name)
            if name in ("support", "multipliers"):
                fill = -1 if name == "support" else 0
                value, more = (torch.nn.functional.pad(v, (0, width - v.shape[1]), value=fill) for v in (value, more))
            out[name] = value.index_copy(0, rows, more)
    return replace(found, **out, n_fallback=found.n_fallback + new.n_fallback)
