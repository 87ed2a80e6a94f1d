"""Capacities of points of unequal numbers, compared at equal numbers of points and units.

A capacity is one of M points a class in N units: M of a distribution have a smaller one, the more there are. Random
choices of equal size, repeated, have the same mean for one distribution whatever it was chosen from. Error of the mean
over R choices: their spread / sqrt(R), which holds that of the draws, and that of the data. For the latter the
jackknife within a choice tells the variance V of a capacity of M fresh points; a mean over choices from all M_all of
them moves by V M / M_all of it to first order, as any U-statistic (Hoeffding 1948).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, marks_chart
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds._capacity import capacity
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR
from geomfeat.geometry.manifolds.per_pair import ALIGNMENTS
from geomfeat.geometry.manifolds.point_clouds import Manifolds, as_manifolds
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.numerics import WORKING, stream

MATCHED_NUMBERS = ("capacity", "dimension", "radius", "utility", *ALIGNMENTS)


@dataclass(frozen=True, eq=False)
class MatchedCapacities(PlottableResult):
    """Capacity and geometry of several point sets at equal numbers of points and units.

    Attributes:
        names: of the sets. n_points: points of each class; n_features: units. repeats: random choices of them.
        values: number -> (sets, repeats). mean, se: number -> (sets,) over the choices, with errors over choices,
            draws and data.
        at_floor: (sets,) whether more than half of the choices of a set are at the floor, where a capacity says nothing
            of separability: such a set is not to be ranked, and its differences are NaN.
        over_data: number -> (sets,) variance over data, a part of se squared.
        notes: what was matched, and what limits the numbers, in sentences.

    `to_frame()`: one row for each set and number: name, quantity, value, stderr, at_floor.
    """

    names: tuple[str, ...]
    n_points: int
    n_features: int
    repeats: int
    values: dict[str, Float[Tensor, "sets repeats"]]
    mean: dict[str, Float[Tensor, "sets"]]
    se: dict[str, Float[Tensor, "sets"]]
    at_floor: tuple[bool, ...]
    over_data: dict[str, Float[Tensor, "sets"]]
    notes: tuple[str, ...] = ()

    def difference(self, a: str, b: str, quantity: str = "capacity", *, log: bool = False) -> tuple[float, float]:
        """b minus a and its standard error: the choices paired by their labels and draws, the data not.

        log: of the logarithms, so that exp of it is a ratio. NaN where one of them is at the floor. Raises BadInput for
        an unknown name or number.
        """
        for known, one in ((self.names, a), (self.names, b), (tuple(self.mean), quantity)):
            if one not in known:
                raise BadInput(f"no {'number' if one == quantity else 'set'} {one!r}: there are {', '.join(known)}")
        i, j = self.names.index(a), self.names.index(b)
        if self.at_floor[i] or self.at_floor[j]:
            return math.nan, math.nan
        values, data = self.values[quantity], self.over_data[quantity]
        if log:
            values, data = values.log(), data / self.mean[quantity].square()
        gap = values[j] - values[i]
        return float(gap.mean()), math.sqrt(float(gap.var()) / self.repeats + float(data[i] + data[j]))

    def _columns(self) -> dict[str, Any]:
        cells = [(name, i, quantity) for i, name in enumerate(self.names) for quantity in self.mean]
        return {
            "name": [name for name, _, _ in cells],
            "quantity": [quantity for _, _, quantity in cells],
            "value": [float(self.mean[quantity][i]) for _, i, quantity in cells],
            "stderr": [float(self.se[quantity][i]) for _, i, quantity in cells],
            "at_floor": [self.at_floor[i] for _, i, _ in cells],
        }

    def _chart(self) -> Plot:
        title = f"Capacity at {self.n_points} points a class and {self.n_features} units"
        return marks_chart(title, "capacity", self.names, self.mean["capacity"], self.se["capacity"])

    def __str__(self) -> str:
        lines = [
            f"Capacity at {self.n_points} points a class and {self.n_features} units, mean of {self.repeats} random "
            "choices; +- one standard error over choices, draws and data",
            f"  {'':22}" + "".join(f"{name[:20]:>22}" for name in self.names),
        ]
        for quantity in self.mean:
            cells = zip(self.mean[quantity].tolist(), self.se[quantity].tolist(), self.at_floor, strict=True)
            shown = [f"{v:.3g} +- {e:.2g}" + " (floor)" * (low and quantity == "capacity") for v, e, low in cells]
            lines.append(f"  {quantity:22}" + "".join(f"{one:>22}" for one in shown))
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def matched_capacities(
    sets: Mapping[str, Any] | Sequence[Any],
    *,
    n_points: int | None = None,
    n_features: int | None = None,
    repeats: int = 10,
    n_draws: int = 100,
    dichotomies: Any = "random",
    seed: int = 0,
    device: str | torch.device | None = None,
) -> MatchedCapacities:
    """Capacity and geometry of several sets of classes at as many points a class and units as the poorest has.

    Args:
        sets: name -> points, or a list of them: Representations with labels (layers, areas, recordings), (P, M, N)
            arrays, or lists of (M_i, N) arrays, of the same number of classes. Groups (runs) of Representations are
            what errors over data are over, otherwise trials.
        n_points, n_features: to match at; default the fewest points of any class, and the fewest units, of all sets.
        repeats: random choices of points and units, without replacement, at least 2. Every choice has t and y of its
            own, the same in all sets.
        n_draws, dichotomies, device: as for `capacity`. seed: of choices and draws.

    Returns `MatchedCapacities`; its first note says what was matched.

    Raises BadInput for fewer than two sets, sets of other classes, and numbers that a set does not have.

    >>> x = torch.randn(3, 12, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> found = matched_capacities({"many": x[:, 4:], "few": x[:, :4]}, repeats=4)
    >>> gap, error = found.difference("many", "few")
    >>> abs(gap) < 3 * error, found.n_points
    (True, 4)
    """
    named = dict(sets) if isinstance(sets, Mapping) else {str(i): one for i, one in enumerate(sets)}
    if len(named) < 2:
        raise BadInput(f"{len(named)} sets: matching needs at least two to compare")
    if int(repeats) != repeats or repeats < 2:
        raise BadInput(f"repeats={repeats}: give a whole number of at least 2 (10 is usual)")
    every = {name: as_manifolds(points, device=device).without_copies() for name, points in named.items()}
    _require_same_classes(every)
    m = _size(n_points, "n_points", "points of a class", {name: min(one.sizes) for name, one in every.items()})
    n = _size(n_features, "n_features", "units", {name: one.x.shape[1] for name, one in every.items()})
    found = {
        name: [_chosen(one, name, m, n, r, n_draws, dichotomies, seed) for r in range(repeats)]
        for name, one in every.items()
    }
    values = {q: _table(found, q) for q in MATCHED_NUMBERS}
    share = torch.tensor([m * sum(1 / s for s in one.sizes) / len(one.sizes) for one in every.values()], dtype=WORKING)
    over_data = {q: share * _variances(found, q) for q in MATCHED_NUMBERS}
    se = {q: (v.var(1) / repeats + over_data[q]).sqrt() for q, v in values.items()}
    low = tuple(2 * sum(c.at_floor for c in row) > len(row) for row in found.values())
    return MatchedCapacities(
        tuple(every), m, n, int(repeats), values, {q: v.mean(1) for q, v in values.items()}, se, low, over_data,
        _notes(every, m, n, int(repeats), seed, low, found),
    )  # fmt: skip


def _require_same_classes(every: Mapping[str, Manifolds]) -> None:
    (first, one), *others = every.items()
    for name, other in others:
        if other.classes != one.classes:
            raise BadInput(
                f"{first!r} has classes {list(one.classes)[:5]} and {name!r} {list(other.classes)[:5]}: capacities are "
                "compared over the same classes, leave the others out"
            )


def _size(asked: int | None, name: str, what: str, there: Mapping[str, int]) -> int:
    poorest = min(there, key=there.__getitem__)
    if asked is None:
        return there[poorest]
    if int(asked) != asked or not 1 <= asked <= there[poorest]:
        raise BadInput(f"{name}={asked}: {poorest!r} has {there[poorest]} {what}; give 1 to {there[poorest]}")
    return int(asked)


def _chosen(
    of: Manifolds, name: str, m: int, n: int, repeat: int, n_draws: int, dichotomies: Any, seed: int
) -> Capacity:
    """The capacity of m points of each class in n units, chosen at random."""
    noise = stream(seed, "capacity", "matched", name, repeat)
    key = torch.rand(len(of.x), generator=noise).to(of.x.device)
    order = key.argsort()
    order = order[of.owner[order].argsort(stable=True)]
    sizes = torch.tensor(of.sizes, device=of.x.device)
    rank = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[of.owner[order]]
    units = torch.randperm(of.x.shape[1], generator=noise)[:n].sort().values.to(of.x.device)
    some = of.take(order[rank < m].sort().values)
    # Of some units, a point has as much less rounding.
    some = replace(some, x=some.x[:, units], rounding=some.rounding * (n / of.x.shape[1]) ** 0.5)
    source = "trials" if some.group is None else "groups"
    return capacity(
        some, n_draws=n_draws, dichotomies=dichotomies, resample=source,
        seed=stream(seed, "capacity", "matched draws", repeat).initial_seed() >> 1,
    )  # fmt: skip


def _table(found: Mapping[str, list[Capacity]], quantity: str) -> Float[Tensor, "sets repeats"]:
    return torch.tensor([[getattr(c, quantity) for c in row] for row in found.values()], dtype=WORKING)


def _variances(found: Mapping[str, list[Capacity]], quantity: str) -> Float[Tensor, "sets"]:
    """Mean variance over data of a number, of the choices that have one; 0 where none has."""
    rows = [[one.variance(quantity) for c in row for one in c.resampled] for row in found.values()]
    kept = [[v for v in row if math.isfinite(v)] for row in rows]
    return torch.tensor([sum(row) / len(row) if row else 0.0 for row in kept], dtype=WORKING)


def _notes(
    every: Mapping[str, Manifolds], m: int, n: int, repeats: int, seed: int, low: Sequence[bool],
    found: Mapping[str, list[Capacity]],
) -> tuple[str, ...]:  # fmt: skip
    held = ", ".join(
        f"{name} {_span(one.sizes)} points a class and {one.x.shape[1]} units" for name, one in every.items()
    )
    out = [f"matched at {m} points a class and {n} units: mean of {repeats} random choices (seed {seed}), of: {held}"]
    out += [
        f"{name}: {AT_FLOOR} in most choices, where a capacity says nothing of separability: not ranked"
        for name, is_low in zip(every, low, strict=True)
        if is_low
    ]
    out += [
        f"{name}: no error over data, {m} points a class are too few to leave any out"
        for name, row in found.items()
        if not any(c.resampled for c in row)
    ]
    return tuple(out)


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
