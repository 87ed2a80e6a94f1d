"""The description of a chart: curves and maps as plain values, drawn by two renderers (plotly and matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geomfeat.errors import BadInput

KINDS = ("measured", "theory", "scatter", "band")


@dataclass(frozen=True)
class Curve:
    """One line of a plot: points (x, y), NaN where there is none, and standard errors of y or None.

    kind: "measured" (marks and a line) or "theory" (a dashed line without marks), "scatter" (marks alone), "band" (a
    line, with its errors as a shaded band). bars: (from, to) on the x axis that are marked by a bar of the curve's
    colour at the lower edge, its significant times for example.

    Raises BadInput for lengths that differ or another kind.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | None = None
    kind: str = "measured"
    bars: Sequence[tuple[float, float]] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.x), len(self.y), len(self.x if self.error is None else self.error)}
        if len(lengths) > 1:
            raise BadInput(f"curve {self.label!r}: x, y and error must be of one length, got {sorted(lengths)}")
        if self.kind not in KINDS:
            raise BadInput(f"curve {self.label!r}: kind={self.kind!r} must be one of {', '.join(KINDS)}")


@dataclass(frozen=True)
class Plot:
    """Curves over one pair of axes.

    Attributes:
        x_ticks: names that stand at x = 0, 1, 2, ..., where x is no number.
        y_ticks: names of rows, from the top, at y = 0, 1, 2, ...; errors of the curves are along x then.
        row: a title; plots of one row that follow one another stand side by side on a page.
    """

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    log_x: bool = False
    log_y: bool = False
    caption: str = ""
    x_ticks: Sequence[str] = ()
    y_ticks: Sequence[str] = ()
    row: str = ""


@dataclass(frozen=True)
class Heat:
    """A map over two axes.

    Attributes:
        values: a row for every y, a column for every x; NaN where there is none.
        lines: curves drawn on top, theory's boundaries for example.
        categories: names of the values 0, 1, 2, ... where they are classes; empty where they are numbers.
        x_ticks, y_ticks: labels of every x and y, if other than x and y themselves.
        marks: points drawn on top with their label in a legend, kinds of cells for example.
        hints: hover text of every value; empty for the numbers alone.
        centered: whether 0 is the middle of the colours, as for residuals.

    Raises BadInput for rows or columns that do not fit the axes.
    """

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    y: Sequence[float]
    values: Sequence[Sequence[float]]
    value_label: str
    lines: Sequence[Curve] = ()
    caption: str = ""
    categories: Sequence[str] = ()
    x_ticks: Sequence[str] = ()
    y_ticks: Sequence[str] = ()
    marks: Sequence[Curve] = ()
    hints: Sequence[Sequence[str]] = ()
    centered: bool = False

    def __post_init__(self) -> None:
        if len(self.values) != len(self.y) or any(len(row) != len(self.x) for row in self.values):
            raise BadInput(
                f"map {self.title!r}: values must be {len(self.y)} rows of {len(self.x)}, got {len(self.values)} of "
                f"{sorted({len(row) for row in self.values})}"
            )
