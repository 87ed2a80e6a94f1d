"""Maps and curves of a sweep as plain values: a number over two conditions, its contours, and the cells that failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geomfeat.charts import Curve, Heat, Plot, theme as look
from geomfeat.comparison.relations.optimizer_phase import FLOW
from geomfeat.comparison.relations.phase_map import Grid, contours, grid_of, theory_line
from geomfeat.comparison.relations.runs import LINEAR, Frame, Trainings, axes_of
from geomfeat.report.content.components import plain
from geomfeat.report.content.number_format import number

Key = tuple[str, str, str]
LOCATION, PLACES = "location", ("richness", "movement", "excess")
NAMES = {"richness": "richness R", "movement": "movement M", "excess": "excess E", "low": "R, low end",
         "high": "R, high end", "kernel_demand": "kernel demand κ", "kernel_demand_on_target": "kernel demand κ_a",
         "kernel_change": "kernel change", "kernel_excess": "kernel excess E_K",
         "linearisation_gap": "linearisation gap"}  # fmt: skip
SHARES = frozenset({"kernel_change", "linearisation_gap"})  # numbers of the location that are no decades
GREEK = {"sigma": "init scale σ", "eta": "learning rate η", "gamma": "output scale γ", "alpha": "α", "gamma0": "γ0"}
LINES = 5  # iso-richness lines of a map
# A design whose cells are mostly empty is no grid: it has no map.
LEAST_COVERED = 0.5
MOST_VALUES = 40  # values of a condition on the axis of a static map


def label_of(key: Sequence[str]) -> str:
    """A number's name for readers.

    >>> label_of(("location", "richness", "")), label_of(("capacity", "radius", "fc1")), label_of(("nc1", "nc1", "fc1"))
    ('richness R', 'capacity: radius, fc1', 'nc1, fc1')
    """
    measure, quantity, layer = key[:3]
    name = NAMES.get(quantity, quantity) if measure == LOCATION else f"{measure}: {quantity}"
    name = measure if measure == quantity else name
    return f"{name}, {layer}" if layer else name


def axis_name(condition: str) -> str:
    """A condition's name for readers.

    >>> axis_name("sigma"), axis_name("has_eta")
    ('init scale σ', 'eta given')
    """
    return f"{condition[4:]} given" if condition.startswith("has_") else GREEK.get(condition, condition)


def unit_of(key: Sequence[str]) -> str:
    """The name of a number with its unit, for a colour bar.

    >>> unit_of(("location", "kernel_demand", "")), unit_of(("location", "kernel_change", ""))
    ('kernel demand κ, decades', 'kernel change')
    """
    return f"{label_of(key)}, decades" if key[0] == LOCATION and key[1] not in SHARES else label_of(key)


def is_signed(key: Sequence[str]) -> bool:
    """Whether 0 is the middle of a number: decades of the location, which are drawn on a diverging scale.

    >>> is_signed(("location", "excess", "")), is_signed(("location", "kernel_change", ""))
    (True, False)
    """
    return key[0] == LOCATION and key[1] not in SHARES


def varying(found: Trainings) -> list[str]:
    """The conditions that can be axes of a map, in the order of the table's axes."""
    return axes_of(found.frame, found.axes) or list(found.axes)


def middle_of(frame: Frame, names: Sequence[str]) -> dict[str, Any]:
    """The middle one of the values of each of these conditions, for a map that can show only one."""
    values = {name: np.sort(frame[name].dropna().unique()) for name in names}
    return {name: float(v[len(v) // 2]) for name, v in values.items()}


def grid_on(rows: Frame, x: str, y: str, where: Mapping[str, Any], column: str = "value") -> Grid | None:
    """The cells of a map; None where the design has no grid over these two conditions."""
    made = grid_of(rows, x, y, column, where)
    trained = (made.n + made.left_out) > 0
    small = max(made.value.shape) <= MOST_VALUES and min(made.value.shape) > 1
    return made if small and trained.mean() >= LEAST_COVERED else None


MAP = (
    "Every cell is the mean over seeds{where}. Lines join equal values{theory}. Grey cells have no training that "
    "can be compared. Marks show cells in which some trainings did not behave like gradient flow."
)


def map_caption(where: Mapping[str, Any], *, theory: bool) -> str:
    """How to read a map: what it averages over, which conditions are fixed, and whether it shows predicted lines."""
    at = " at " + ", ".join(f"{k} {v:.4g}" for k, v in where.items()) if where else ""
    return MAP.format(where=at, theory="; dashed lines are predicted by theory" if theory else "")


def map_of(
    grid: Grid, title: str, value_label: str, *, lines: bool = False, theory: tuple[float, float] | None = None,
    centered: bool = False, caption: str = "",
) -> Heat:  # fmt: skip
    """A grid as a map, with lines of equal value and, dashed, those of theory's slopes (on x, on y)."""
    drawn: list[Curve] = []
    known = grid.value[np.isfinite(grid.value)]
    if lines and known.size and np.ptp(known) > 0:
        levels = np.linspace(known.min(), known.max(), LINES + 2)[1:-1]
        for level, parts in contours(grid, levels).items():
            drawn += [Curve(number(level), list(p[:, 0]), list(p[:, 1])) for p in parts]
            ends = np.empty((0, 2)) if theory is None else theory_line(grid, level, *theory)
            drawn += [Curve("theory", list(ends[:, 0]), list(ends[:, 1]), kind="theory")] if len(ends) else []
    return Heat(
        title, axis_name(grid.x), axis_name(grid.y), list(grid.log_x), list(grid.log_y), grid.value.tolist(),
        value_label, drawn, x_ticks=[number(v) for v in grid.x_values], y_ticks=[number(v) for v in grid.y_values],
        marks=marks_of(grid), hints=hints_of(grid, value_label), centered=centered, caption=caption,
    )  # fmt: skip


def marks_of(grid: Grid) -> list[Curve]:
    """Cells that are not all like gradient flow, by their most frequent other phase, and cells without a number."""
    places: dict[str, list[tuple[float, float]]] = {}
    for i, j in np.ndindex(*grid.value.shape):
        phases = [p for p in str(grid.phase[i, j]).split(", ") if p not in ("", FLOW)]
        kind = phases[0] if phases else "left out" if grid.left_out[i, j] else ""
        if kind:
            places.setdefault(kind, []).append((float(grid.log_x[j]), float(grid.log_y[i])))
    order = [kind for kind in look.PHASE_MARKS if kind in places]
    return [Curve(k, [p[0] for p in places[k]], [p[1] for p in places[k]], kind="scatter") for k in order]


def hints_of(grid: Grid, value_label: str) -> list[list[str]]:
    """The hover text of every cell: its conditions, value, number of trainings, phases and failures."""
    out = []
    for i, y in enumerate(grid.y_values):
        row = []
        for j, x in enumerate(grid.x_values):
            spread = f" ± {number(grid.spread[i, j])}" if math.isfinite(grid.spread[i, j]) else ""
            parts = [
                f"{grid.x} {number(x)}, {grid.y} {number(y)}",
                f"{value_label}: {number(grid.value[i, j])}{spread} ({grid.n[i, j]} trainings)",
                str(grid.phase[i, j]),
                f"{grid.left_out[i, j]} left out: {grid.reason[i, j]}" if grid.left_out[i, j] else "",
            ]
            row.append("<br>".join(plain(t) for t in parts if t))
        out.append(row)
    return out


def curve_of(
    rows: Frame, x: str, title: str, value_label: str, *, slope: float | None = None, caption: str = ""
) -> Plot:
    """A number over the only condition that varies: means over seeds with their standard errors, and theory's slope."""
    good = rows[rows["used"] & np.isfinite(rows["value"].astype(float))]
    cells = good.groupby(x)["value"].agg(["mean", "std", "count"]).reset_index()
    error = (cells["std"] / np.sqrt(cells["count"])).fillna(0.0)
    curves = [Curve("mean over seeds", cells[x].tolist(), cells["mean"].tolist(), error.tolist())]
    if slope is not None and len(cells):
        along = cells[x] if x in LINEAR else np.log10(cells[x])
        height = float((cells["mean"] - slope * along).mean())
        line = Curve(f"slope {slope:g}", cells[x].tolist(), (height + slope * along).tolist(), kind="theory")
        curves.append(line)
    return Plot(title, axis_name(x), value_label, curves, log_x=x not in LINEAR, caption=caption)


def rows_of(found: Trainings, key: Key, group: Frame | None = None) -> Frame:
    """Every training of a group with one number as `value`, as `numbers_of` gives it."""
    frame: Frame = found.frame if group is None else group
    values = found.values.loc[frame.index, [found.key(*key)]].to_numpy().ravel()
    return frame.assign(value=values).reset_index()
