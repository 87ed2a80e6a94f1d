"""Errors of a capacity over data: its numbers again without each group of points, or of units, under the same draws.

The draws say how far the average over directions and labels is known for these points. Other trials, runs or neurons
would give other points: a delete-a-group jackknife (see `statistics.group_errors`) estimates how far that moves each
number, and its square adds to that of the draws' error. All deletions use the draws of the whole, so that their
differences are those of the points; what a draw does not rest on costs nothing (see `solved_draws`).

Of few draws these differences still hold noise, which squared would count as variation of the data. The halves of the
draws are independent: the product of their deviations has the variance over data as its mean, and none of that noise.

Points of a class are exchangeable, classes are fixed: trials are left out in parts of which every class has its share.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.face_median import capacity_from_median
from geomfeat.geometry.manifolds.glue_geometry import glue_values
from geomfeat.geometry.manifolds.nonseparable_fraction import nonseparable
from geomfeat.geometry.manifolds.per_pair import ALIGNMENTS, pair_values
from geomfeat.geometry.manifolds.point_clouds import Manifolds, first_of_copies
from geomfeat.geometry.manifolds.random_directions import Draws
from geomfeat.geometry.manifolds.resampling.solved_draws import Solved, placed, solved
from geomfeat.numerics import WORKING, stream
from geomfeat.statistics.group_errors import CAUSED_BY_DATA, FEWEST, grouped_covariance, parts_of

NUMBERS = (
    "capacity", "capacity_faces", "dimension", "radius", "radius_mean", "utility", *ALIGNMENTS, "frac_inside",
    "frac_nonseparable", "simulated_capacity",
)  # fmt: skip
SOURCES = ("groups", "trials", "units")
# Trials and units are left out in so many parts: the error is then known to about 16 %.
PARTS = 20
# Without groups, trials are left out by default up to this many points; beyond, it would take far longer than the rest.
FEW_POINTS = 100


@dataclass(frozen=True, eq=False)
class Parts:
    """What is left out in turn: part (k,) of every point, or (N,) of every unit, -1 where it stays; sizes (g,)."""

    source: str
    said: str
    part: Int[Tensor, "_"]
    sizes: Int[Tensor, "g"]


@dataclass(frozen=True, eq=False)
class Resampled:
    """The numbers of a capacity without each part in turn.

    Attributes:
        source: "groups", "trials" or "units". said: what was left out, as "12 groups".
        sizes: (g,) points (or units) of each part. values: (1 + g, 2) of every number, with all data and without each
            part, from each half of the draws; NaN where it is not defined.
    """

    source: str
    said: str
    sizes: Int[Tensor, "g"]
    values: dict[str, Float[Tensor, "_ 2"]]

    def variance(self, name: str, of: Callable[[Tensor], Tensor] = lambda value: value) -> float:
        """Jackknife variance of a number, or of a function of it; NaN where a part leaves it undefined.

        >>> x = torch.tensor([2.5, 4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
        >>> Resampled("trials", "4 trials", torch.ones(4).long(), {"x": torch.stack([x, x + 1], 1)}).variance("x")
        3.75
        """
        return variance_of(of(self.values[name]), self.sizes)


def variance_of(values: Float[Tensor, "_ 2"], sizes: Int[Tensor, "g"]) -> float:
    """Variance over data of a number (1 + g, 2) as in `Resampled`; 0 where the halves of the draws do not agree."""
    first, second = values.T
    # A variance is not below 0, though its estimate can be.
    return float(grouped_covariance((first[0], second[0]), (first[1:], second[1:]), sizes).clamp_min(0.0))


def sources_of(resample: str | Iterable[str] | None, manifolds: Manifolds) -> tuple[str, ...]:
    """What `resample` asks for, of "groups", "trials" and "units"; BadInput for anything else."""
    asked = () if resample is None else (resample,) if isinstance(resample, str) else tuple(resample)
    own = "trials" if manifolds.group is None else "groups"
    if asked == ("auto",):
        return (own,) if own == "groups" or len(manifolds.x) <= FEW_POINTS else ()
    if set(asked) - {*SOURCES}:
        raise BadInput(
            f"resample={resample!r}: use 'auto', None (draws alone), or any of {', '.join(map(repr, SOURCES))}, such "
            "as ('groups', 'units')"
        )
    if {"groups", "trials"} <= set(asked):
        raise BadInput("resample= has groups and trials: trials of a group are not independent, name one of the two")
    return tuple(dict.fromkeys(own if source == "groups" else source for source in asked))


def parts_for(source: str, manifolds: Manifolds, seed: int) -> Parts:
    """What is left out in turn; BadInput where that gives no error."""
    if source == "units":
        n = manifolds.x.shape[1]
        part = torch.randperm(n, generator=stream(seed, "capacity", "units")) % min(PARTS, n)
        return _checked(Parts(source, f"{n} units", part, torch.bincount(part)), "units")
    if source == "groups":
        assert manifolds.group is not None
        count = len(torch.unique(manifolds.group))
        part = parts_of(manifolds.group)
        parts = _checked(Parts(source, f"{count} groups", part, torch.bincount(part)), "groups")
    else:
        part = _trial_parts(manifolds)
        n = int((part >= 0).sum())
        parts = _checked(
            Parts(source, f"{n} trials", part, torch.bincount(part[part >= 0])), "points in classes of two"
        )
    for j in range(len(parts.sizes)):
        left = torch.bincount(manifolds.owner[part != j], minlength=manifolds.n_manifolds)
        if not bool((left > 0).all()):
            name = manifolds.classes[int(left.argmin())]
            raise BadInput(f"class {name!r} has points in one of the {source} only, and none are left without it")
    return parts


def _checked(parts: Parts, what: str) -> Parts:
    if len(parts.sizes) < FEWEST:
        raise BadInput(f"{len(parts.sizes)} {what} are too few for an error over {parts.source}: {FEWEST} are needed")
    return parts


def _trial_parts(manifolds: Manifolds) -> Tensor:
    """Different points in turn, class by class, copies with their first; a class of a single point stays whole."""
    first, same = first_of_copies(manifolds.x, manifolds.owner)
    owner = manifolds.owner[first]
    several = torch.bincount(owner, minlength=manifolds.n_manifolds)[owner] > 1
    moved = first[several][owner[several].argsort(stable=True)]
    out = torch.full_like(manifolds.owner, -1)
    out[moved] = torch.arange(len(moved), device=out.device) % min(PARTS, max(1, len(moved)))
    return out[same]


def resampled(
    whole: Solved, given: Manifolds, draws: Draws, source: str, *, center: str | None, share: float, seed: int
) -> Resampled | str:
    """The numbers without every part in turn, or why there are none.

    `given`, `draws`: points with all their copies and directions, in the units' coordinates. `share`: nonseparable
    dichotomies of the whole; those that are separable stay so without some of the points.
    """
    try:
        parts = parts_for(source, given, seed)
        judge, every = share > 0 or source == "units", range(len(parts.sizes))
        found = [_of_halves(whole, judge)]
        found += [_of_halves(_without(whole, given, draws, parts, j, center), judge) for j in every]
    except CAUSED_BY_DATA as error:
        return str(error)
    values = {name: torch.tensor([[half[name] for half in one] for one in found], dtype=WORKING) for name in NUMBERS}
    return Resampled(source, parts.said, parts.sizes.cpu(), values)


def _of_halves(of: Solved, judge: bool) -> list[dict[str, float]]:
    n = len(of.draws.t)
    return [numbers(of.take(slice(*rows)), judge) for rows in ((0, n // 2), (n // 2, n))]


def _without(whole: Solved, given: Manifolds, draws: Draws, parts: Parts, j: int, center: str | None) -> Solved:
    part = parts.part.to(given.x.device)
    if parts.source == "units":
        kept = torch.nonzero(part != j)[:, 0]
        # Of some units, a point has as much less rounding.
        rounding = given.rounding * (len(kept) / len(part)) ** 0.5
        return _again(replace(given, x=given.x[:, kept], rounding=rounding), replace(draws, t=draws.t[:, kept.cpu()]))
    if center == "global":
        # Every point moves with the centre: no projection stays.
        return _again(given.take(torch.nonzero(part != j)[:, 0]).centered(), draws)
    return whole.without(replace(given, group=part).without_copies().group == j)


def _again(manifolds: Manifolds, draws: Draws) -> Solved:
    if not bool((manifolds.x != 0).any()):
        raise BadInput("every point that is left is at the origin")
    place = placed(manifolds)
    here = place.draws(draws)
    return solved(place, here, place.project(here.t, here.y))


def numbers(of: Solved, judge: bool) -> dict[str, float]:
    """All numbers of a capacity that have an error, without it; `judge`: whether any dichotomy may be inseparable."""
    sure, n_manifolds = of.found.certified, of.manifolds.n_manifolds
    if not bool(sure.any()):
        raise BadInput("no draw could be certified")
    p2, k, anchors = of.found.norms2[sure].cpu(), of.found.faces[sure].cpu(), of.anchors
    glue = glue_values(anchors, p2)
    glue = of.far.of_one_side(glue) if of.far and of.one_sided else glue
    x = of.manifolds.x * of.here[:, None]
    return {
        "capacity": per_mean(n_manifolds, p2), "capacity_faces": per_mean(n_manifolds, k.to(WORKING)),
        "dimension": glue.dimension, "radius": glue.radius, "radius_mean": glue.radius_mean, "utility": glue.utility,
        **pair_values(anchors),
        "frac_inside": float(of.found.inside[sure].to(WORKING).mean()),
        "frac_nonseparable": (
            nonseparable(x, of.manifolds.owner, of.draws.y, of.found, of.draws.strata).share if judge else 0.0
        ),
        "simulated_capacity": capacity_from_median(k, n_manifolds)[0],
    }  # fmt: skip


def per_mean(n_manifolds: int, values: Tensor) -> float:
    """P / mean of the values; NaN where that is 0."""
    mean = float(values.mean())
    return n_manifolds / mean if mean > 0 else math.nan
