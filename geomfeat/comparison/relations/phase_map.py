"""Phase diagrams in numbers: a measure over two conditions, its contours, theory's lines, and the cells that failed.

Coordinates are log10 of the conditions throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.charts import Heat
from geomfeat.comparison.relations.runs import KNOBS, LINEAR, Frame, check_known, coordinates, trainings_of
from geomfeat.display import PlottableResult, pair_columns
from geomfeat.errors import BadInput

ASIDE = ("run", "seed", "training", "outcome")


@dataclass(frozen=True, eq=False)
class Grid(PlottableResult):
    """A number over two conditions; arrays are (rows, columns) = (values of y, values of x), both ascending.

    Attributes:
        x, y: the conditions. x_values, y_values: their values. log_x, log_y: their log10 (an exponent: as it is).
        value: mean over the seeds that can be compared, NaN where there is none. spread: standard deviation over them.
        n: how many. left_out: how many were trained but cannot be compared. reason: why, "" where none is left out.
        phase: the phases of the cell's trainings, the most frequent first, joined by ", ".

    `to_frame()`: one row for each cell: the two conditions under their names, then value, spread, n, left_out,
    reason, phase.
    """

    x: str
    y: str
    x_values: np.ndarray
    y_values: np.ndarray
    log_x: np.ndarray
    log_y: np.ndarray
    value: np.ndarray
    spread: np.ndarray
    n: np.ndarray
    left_out: np.ndarray
    reason: np.ndarray
    phase: np.ndarray

    @property
    def failed(self) -> np.ndarray:
        """(rows, columns) cells that were trained and have no number at all."""
        return (self.n == 0) & (self.left_out > 0)

    def _columns(self) -> dict[str, Any]:
        cells = ("value", "spread", "n", "left_out", "reason", "phase")
        table = pair_columns(list(self.y_values), list(self.x_values), **{name: getattr(self, name) for name in cells})
        return {self.y: table.pop("row"), self.x: table.pop("column"), **table}

    def _chart(self) -> Heat:
        x, y = (name if name in LINEAR else f"log10 {name}" for name in (self.x, self.y))
        return Heat("", x, y, self.log_x.tolist(), self.log_y.tolist(), self.value.tolist(), "value")

    def __str__(self) -> str:
        cells = f"{len(self.y_values)} x {len(self.x_values)} cells"
        return f"Grid of {self.y} and {self.x}: {cells}, {int((self.n > 0).sum())} with a value"


def numbers_of(table: pd.DataFrame, measure: str, quantity: str, layer: str = "") -> pd.DataFrame:
    """Every training of a sweep with one number as `value`, NaN where it failed; see `trainings_of` for the columns."""
    found = trainings_of(table)
    return found.frame.assign(value=found.values[found.key(measure, quantity, layer)]).reset_index()


def portrait(
    table: pd.DataFrame, x: str = "sigma", y: str = "eta", *, measure: str = "location", quantity: str = "richness",
    layer: str = "", where: Mapping[str, Any] | None = None,
) -> Grid:  # fmt: skip
    """The phase diagram of a sweep: a number over two conditions, averaged over seeds, and the cells that failed.

    Args:
        table: the tidy table of a sweep. x, y: conditions that are numbers. measure, quantity, layer: the number.
        where: values of further conditions that vary, condition -> value.

    Raises BadInput for a number or condition that the table does not have, and where another condition varies.

    >>> rows = [dict(run=f"{s} {e}", seed=0, at="trained", sigma=s, eta=e, layer="", layer_b="", measure="location",
    ...              quantity="richness", value=s - e, ok=True, note="") for s in (1.0, 2.0) for e in (0.1, 0.5)]
    >>> portrait(pd.DataFrame(rows)).value.tolist()
    [[0.9, 1.9], [0.5, 1.5]]
    """
    return grid_of(numbers_of(table, measure, quantity, layer), x, y, where=where)


def grid_of(
    trainings: pd.DataFrame, x: str, y: str, column: str = "value", where: Mapping[str, Any] | None = None
) -> Grid:
    """Cells over two conditions, averaged over seeds and nothing else.

    Args:
        trainings: from `numbers_of`, or from `residuals` with column="residual".
        x, y: conditions that are numbers. where: values of further conditions that vary, condition -> value.

    Raises BadInput for an unknown condition, and where another condition varies within cells: name a value of it.

    >>> rows = [dict(sigma=s, eta=e, seed=0, value=s * e, used=e < 1, phase="", why="diverged") for s in (1, 10)
    ...         for e in (0.1, 1.0)]
    >>> found = grid_of(pd.DataFrame(rows), "sigma", "eta")
    >>> found.value.round(2).tolist(), found.failed.tolist()
    ([[0.1, 1.0], [nan, nan]], [[False, False], [True, True]])
    """
    frame: Frame = trainings
    known = _conditions(frame)
    check_known([x, y, *(where or {})], known, "condition")
    if x == y:
        raise BadInput(f"x and y are both {x!r}: give two conditions")
    for name, value in (where or {}).items():
        rows = frame[frame[name] == value]
        if rows.empty:
            there = ", ".join(map(str, dict.fromkeys(frame[name])))
            raise BadInput(f"where: no training has {name}={value!r}; there are: {there}")
        frame = rows
    frame = frame[frame[x].notna() & frame[y].notna()]
    for name in (x, y):
        if not pd.api.types.is_numeric_dtype(frame[name]) or not frame[name].nunique():
            raise BadInput(
                f"{name} is not a number: an axis of a phase diagram is a numeric condition like sigma or eta"
            )
    _check_fixed(frame, x, y, known)
    xs, ys = np.unique(frame[x].to_numpy(float)), np.unique(frame[y].to_numpy(float))
    return _filled(frame, x, y, xs, ys, column)


def contours(grid: Grid, levels: Sequence[float]) -> dict[float, list[np.ndarray]]:
    """Level -> lines, each (k, 2) in (log x, log y): where the number, linear between cells, takes that level.

    Lines end at cells without a number: next to one, only the triangle of the three others is crossed. On the richness,
    these are the iso-richness lines.
    """
    if min(grid.value.shape) < 2:
        raise BadInput(f"contours need two values of {grid.x} and of {grid.y} at least, got {grid.value.shape[::-1]}")
    from contourpy import contour_generator

    made = contour_generator(grid.log_x, grid.log_y, np.ma.masked_invalid(grid.value), name="serial")
    return {float(level): [np.asarray(line) for line in made.lines(level)] for level in levels}


def theory_line(grid: Grid, level: float, slope_x: float, slope_y: float) -> np.ndarray:
    """(2, 2) or (0, 2) ends, in (log x, log y), of the line on which a plane with theory's slopes takes `level`.

    The plane's height is that of the cells in the mean; its line is cut at the borders of the grid. On sigma and eta
    the slopes of the richness are -L and 0 (see `expected_slopes`): lines of equal richness are upright.
    """
    if slope_x == 0 and slope_y == 0:
        raise BadInput("slope_x and slope_y are both 0: a plane without a slope has no line")
    x, y = np.meshgrid(grid.log_x, grid.log_y)
    known = np.isfinite(grid.value)
    if not known.any():
        raise BadInput("no cell of the grid has a number, so theory's plane has no offset: give a grid with values")
    height = float((grid.value - slope_x * x - slope_y * y)[known].mean())
    rest = level - height
    (left, right), (low, high) = ((v.min(), v.max()) for v in (grid.log_x, grid.log_y))
    ends = [(a, (rest - slope_x * a) / slope_y) for a in (left, right) if slope_y != 0]
    ends += [((rest - slope_y * b) / slope_x, b) for b in (low, high) if slope_x != 0]
    slack = 1e-9 * max(1.0, right - left, high - low)
    inside = [
        (a, b) for a, b in ends if left - slack <= a <= right + slack and low - slack <= b <= high + slack
    ]  # fmt: skip
    if not inside:
        return np.empty((0, 2))
    first = min(inside)
    return np.array([first, max(inside, key=lambda p: (p[0] - first[0]) ** 2 + (p[1] - first[1]) ** 2)])


def _conditions(frame: Frame) -> list[str]:
    """The columns before the losses, which begin what is not a condition."""
    ends = {"train_loss", "value", "used", "phase"}
    first = next((i for i, c in enumerate(frame.columns) if c in ends), len(frame.columns))
    return [c for c in frame.columns[:first] if c not in ASIDE]


def _check_fixed(frame: Frame, x: str, y: str, known: list[str]) -> None:
    """BadInput if anything but the seed varies within a cell."""
    same = {x, y} | ({"gamma", *KNOBS} if {x, y} & {"gamma", *KNOBS} else set())
    for name in known:
        if name in same or name.startswith("has_"):
            continue
        values = dict.fromkeys(frame[name])
        if len(values) > 1 and (frame.groupby([x, y])[name].nunique(dropna=False) > 1).any():
            raise BadInput(
                f"{name} varies within cells of {x} and {y}: take one of its values, "
                f"where={{{name!r}: ...}}, out of {', '.join(map(str, values))}"
            )


def _filled(frame: Frame, x: str, y: str, xs: np.ndarray, ys: np.ndarray, column: str) -> Grid:
    shape = (len(ys), len(xs))
    value, spread = np.full(shape, np.nan), np.full(shape, np.nan)
    n, left_out = np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
    reason, phase = np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
    for (a, b), cell in frame.groupby([x, y]):
        at = (int(np.searchsorted(ys, b)), int(np.searchsorted(xs, a)))
        good = cell["used"].to_numpy(bool) & np.isfinite(cell[column].to_numpy(float))
        numbers = cell[column].to_numpy(float)[good]
        n[at], left_out[at] = len(numbers), len(cell) - len(numbers)
        if len(numbers):
            value[at] = numbers.mean()
        if len(numbers) > 1:
            spread[at] = numbers.std(ddof=1)
        words = [w or "measured without a number" for w in cell["why"][~good]]
        reason[at] = "; ".join(dict.fromkeys(words))
        phase[at] = ", ".join(p for p in cell["phase"].value_counts().index if p)
    log_x, log_y = (coordinates(pd.DataFrame({k: v}), [k])[:, 0] for k, v in ((x, xs), (y, ys)))
    return Grid(x, y, xs, ys, log_x, log_y, value, spread, n, left_out, reason, phase)
