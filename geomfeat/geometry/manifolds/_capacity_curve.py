"""Capacity and geometry of sub-samples: against points per manifold, units, or number of manifolds.

A sample of M points of a manifold has a larger capacity than the manifold, and fewer units make a smaller cone problem:
a capacity is a number for its M, N and P, and the curve shows how far it is from settled.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart, pair_columns
from geomfeat.errors import BadInput, GeomfeatError
from geomfeat.geometry.manifolds._capacity import capacity
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR
from geomfeat.geometry.manifolds.point_clouds import Manifolds, as_manifolds
from geomfeat.geometry.manifolds.random_directions import labels_for
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.numerics import WORKING, stream

ALONG = ("points", "features", "manifolds")
HALVINGS = 5


@dataclass(frozen=True, eq=False)
class CapacityCurve(PlottableResult):
    """What `capacity` says of random sub-samples, by size.

    Attributes:
        along: "points", "features" or "manifolds". sizes: points of every manifold, units, or manifolds.
        values: for every quantity with an error (capacity, dimension, radius, ...) its value in every repeat.
        mean: over the repeats. se: standard error of that mean, from the spread of the repeats (each has sub-samples
            and draws of its own, so both count); with one repeat the error over its draws.
        se_draws: the part of `se` that the draws alone make up; more draws shrink it, more repeats shrink both. The
            errors are for the points as given: what other points would have shown is in neither.
        n_draws, repeats, dichotomies, center: as asked for.
        notes: what limits these numbers, in sentences.

    `to_frame()`: one row for each size and quantity: along, size, quantity, value, stderr, stderr_draws.
    """

    along: str
    sizes: tuple[int, ...]
    values: dict[str, Float[Tensor, "sizes repeats"]]
    mean: dict[str, Float[Tensor, "sizes"]]
    se: dict[str, Float[Tensor, "sizes"]]
    se_draws: dict[str, Float[Tensor, "sizes"]]
    n_draws: int
    repeats: int
    dichotomies: str
    center: str | None
    notes: tuple[str, ...] = ()

    def _columns(self) -> dict[str, Any]:
        table = pair_columns(
            tuple(self.mean), self.sizes, value=[*self.mean.values()], stderr=[*self.se.values()],
            stderr_draws=[*self.se_draws.values()],
        )  # fmt: skip
        names, sizes = table.pop("row"), table.pop("column")
        table = {name: list(map(float, values)) for name, values in table.items()}
        return {"along": [self.along] * len(sizes), "size": sizes, "quantity": names, **table}

    def _chart(self) -> Plot:
        mean, error = self.mean["capacity"], self.se["capacity"]
        return line_chart(f"capacity against {self.along}", self.along, "capacity", self.sizes, mean, error, log_x=True)


def capacity_curve(
    points: Any,
    labels: Any = None,
    *,
    along: str = "points",
    sizes: Any = None,
    repeats: int = 5,
    n_draws: int = 200,
    dichotomies: Any = "random",
    center: str | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> CapacityCurve:
    """Capacity and geometry against the number of points per manifold, of units, or of manifolds.

    Every repeat takes its members at random without replacement, the smaller sizes within the larger ones, and keeps
    its directions t and labels y over all sizes: within one repeat, differences between sizes are differences of the
    geometry ("one-vs-rest" and "balanced" need other labels for every number of manifolds).

    Args:
        points, labels, n_draws, dichotomies, center, device: as for `capacity`.
        along: "points" (as many from every class), "features" (random units) or "manifolds".
        sizes: whole numbers in any order; default all there are, halved up to five times. For
            points at most the size of the smallest class, so that every class counts equally.
        repeats: independent sub-samplings.

    Returns `CapacityCurve`. A sub-sample that gives no capacity (every point at the origin, say) is NaN, with a note.

    Raises BadInput for another `along`, sizes out of range, and as `capacity`.

    >>> x = torch.eye(24, dtype=torch.float64).reshape(4, 6, 24)             # of orthonormal points: 2 / M
    >>> curve = capacity_curve(x, sizes=[1, 2, 6], n_draws=400)
    >>> [round(float(a), 1) for a in curve.mean["capacity"]]
    [2.0, 1.0, 0.3]
    """
    if along not in ALONG:
        raise BadInput(f"along={along!r}: use one of {', '.join(map(repr, ALONG))}")
    for name, count, least in (("repeats", repeats, 1), ("n_draws", n_draws, 2)):
        if int(count) != count or count < least:
            raise BadInput(f"{name}={count}: give a whole number of at least {least}")
    manifolds = as_manifolds(points, labels, device=device)
    taken = _sizes(manifolds, along, sizes)
    found: list[list[Capacity | str]] = [[] for _ in taken]
    for repeat in range(repeats):
        own = stream(seed, "capacity curve", repeat).initial_seed()
        order = _order(manifolds, along, own)
        t = torch.randn(n_draws, manifolds.x.shape[1], generator=stream(own, "t"), dtype=WORKING)
        for row, size in zip(found, taken, strict=True):
            some, units, kept = _sub_sample(manifolds, along, order, size)
            y = _labels(dichotomies, n_draws, manifolds.n_manifolds, kept, own)
            row.append(_measured(some, (t[:, units.cpu()], y), center))
    values, errors = _table(found, ""), _table(found, "_se")
    draws = {name: e.square().mean(1).sqrt() / math.sqrt(repeats) for name, e in errors.items()}
    spread = {name: v.std(1) / math.sqrt(repeats) for name, v in values.items()} if repeats > 1 else draws
    return CapacityCurve(
        along, taken, values, {name: v.mean(1) for name, v in values.items()}, spread, draws, n_draws, repeats,
        dichotomies if isinstance(dichotomies, str) else "given", center, _notes(found, taken, along),
    )  # fmt: skip


def _sizes(manifolds: Manifolds, along: str, sizes: Any) -> tuple[int, ...]:
    most = {"points": min(manifolds.sizes), "features": manifolds.x.shape[1], "manifolds": manifolds.n_manifolds}[along]
    if sizes is None:
        return tuple(sorted({max(min(2, most), most >> k) for k in range(HALVINGS + 1)}))
    taken = tuple(int(s) for s in sizes)
    bad = any(given != s or not 1 <= s <= most for given, s in zip(sizes, taken, strict=True))
    if bad or not taken or len(set(taken)) < len(taken):
        there = f"the smallest class has {most} points" if along == "points" else f"there are {most}"
        raise BadInput(
            f"sizes={list(sizes)} along {along!r}: {there}; give different whole numbers from 1 to {most}"
            + (" (or leave the smallest classes out)" if along == "points" else "")
        )
    return taken


def _order(manifolds: Manifolds, along: str, seed: int) -> Tensor:
    """Rank of every point within its class, of every unit, or of every manifold; size s takes the ranks below s."""
    n = {"points": len(manifolds.x), "features": manifolds.x.shape[1], "manifolds": manifolds.n_manifolds}[along]
    shuffled = torch.randperm(n, generator=stream(seed, "members"))
    if along != "points":
        return shuffled
    # Shuffled points sorted by class, then counted within each.
    owner = manifolds.owner.cpu()
    by_class = shuffled[owner[shuffled].argsort(stable=True)]
    starts = torch.tensor([0, *manifolds.sizes]).cumsum(0)[:-1]
    rank = torch.empty(n, dtype=torch.long)
    rank[by_class] = torch.arange(n) - starts[owner[by_class]]
    return rank


def _sub_sample(manifolds: Manifolds, along: str, order: Tensor, size: int) -> tuple[Manifolds, Tensor, Tensor]:
    """The points, the units and the manifolds that are left, each in their old order."""
    chosen = (order < size).to(manifolds.x.device)
    units = torch.arange(manifolds.x.shape[1], device=chosen.device)
    kept = torch.arange(manifolds.n_manifolds, device=chosen.device)
    rows = torch.ones(len(manifolds.x), dtype=torch.bool, device=chosen.device)
    if along == "points":
        rows = chosen
    elif along == "features":
        units = units[chosen]
    else:
        kept, rows = kept[chosen], chosen[manifolds.owner]
    owner = torch.searchsorted(kept, manifolds.owner[rows])
    sizes = torch.bincount(owner, minlength=len(kept))
    # Of some features, a point has as much less rounding.
    rounding = manifolds.rounding[rows] * (len(units) / manifolds.x.shape[1]) ** 0.5
    some = Manifolds(
        manifolds.x[rows][:, units], owner, tuple(sizes.tolist()), tuple(manifolds.classes[i] for i in kept.tolist()),
        rounding, manifolds.precision,
    )  # fmt: skip
    return some, units, kept


def _labels(dichotomies: Any, n_draws: int, n_manifolds: int, kept: Tensor, seed: int) -> Tensor:
    if isinstance(dichotomies, str) and dichotomies != "random":
        return labels_for(dichotomies, n_draws, len(kept), seed)[0]
    y, _ = labels_for(dichotomies, n_draws, n_manifolds, seed)
    return y[:, kept.to(y.device)]


def _measured(points: Manifolds, draws: tuple[Tensor, Tensor], center: str | None) -> Capacity | str:
    """The capacity, or why there is none."""
    try:
        return capacity(points, draws=draws, center=center, resample=None)
    except (GeomfeatError, ArithmeticError) as error:
        return str(error)


def _table(found: list[list[Capacity | str]], suffix: str) -> dict[str, Tensor]:
    """{quantity: (sizes, repeats)} of the quantities that have an error, or of their errors; NaN where they failed."""
    names = {f.name for f in fields(Capacity)}
    return {
        name: torch.tensor([[getattr(c, name + suffix, math.nan) for c in row] for row in found], dtype=WORKING)
        for name in (f.name for f in fields(Capacity))
        if f"{name}_se" in names
    }


def _notes(found: list[list[Capacity | str]], sizes: tuple[int, ...], along: str) -> tuple[str, ...]:
    out = []
    for size, row in zip(sizes, found, strict=True):
        failed = [c for c in row if isinstance(c, str)]
        bad = sum(c.n_uncertified for c in row if isinstance(c, Capacity))
        if failed:
            out.append(f"{len(failed)} of {len(row)} sub-samples with {size} {along} failed: {failed[0]}")
        low = sum(c.at_floor for c in row if isinstance(c, Capacity))
        if low:
            out.append(
                f"{low} of {len(row)} sub-samples with {size} {along} are {AT_FLOOR}: their capacity is P / rank and "
                "says nothing of separability"
            )
        if bad:
            out.append(f"{bad} draws with {size} {along} not certified, left out")
    return tuple(out)
