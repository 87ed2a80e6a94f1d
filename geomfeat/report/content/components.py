"""The pieces a page is built from: cells, tables, panels (one interactive plot each) and figures.

Panels are plain dictionaries in Plotly's format. They are made without the plotly package, which is only asked for its
JavaScript; the tests validate every panel with it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from geomfeat.charts import theme as look
from geomfeat.charts.log_ticks import log_ticks, tick_text
from geomfeat.charts.powers import raised
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR
from geomfeat.report.content.described_panels import described
from geomfeat.report.content.number_format import MISSING, number, share_text, signed, with_error
from geomfeat.report.content.study_view import Value

FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what is shown, the full number behind it, and a regime or failure to mark it by."""

    text: str
    value: float | None = None
    mark: str = ""
    hint: str = ""

    @property
    def shown(self) -> str:
        """The text with a true minus sign in front of numbers."""
        return self.text.replace("-", "−") if self.value is not None else self.text


@dataclass(frozen=True)
class Table:
    """Columns and rows of a table; the first cell of a row is its heading."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a name, and its colour, line ("", "solid", "dash" or "dot") and mark (an SVG path)."""

    label: str
    colour: str
    line: str = "solid"
    path: str = ""
    open: bool = False


@dataclass(frozen=True)
class Panel:
    """One interactive plot.

    `size` is "tiny", "small", "wide", "tall", "square", "matrix" or "map": the page's style gives it its height.
    `model` is the index of the one model it shows, if it is one: hiding the model hides the panel. `keys` is its
    legend, which stands below it, where it can wrap.
    """

    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    size: str = "small"
    model: int | None = None
    keys: Sequence[Key] = ()

    @property
    def described(self) -> str:
        """What it shows in a sentence or two, for readers who hear the page."""
        return described(self.title, self.data, self.layout)


@dataclass(frozen=True)
class Figure:
    """Panels with one caption that says how to read them, and the numbers behind them as tables.

    Attributes:
        static: name of the drawing that stands in where JavaScript is off.
        bar: a colour scale to show: (words at its start, words at its end, colours).
        bar_of_lines: whether the scale colours lines, which follow the theme, and not the cells of a matrix.
        shape: how the panels are laid out on a wide page: "" as many as fit, "many" small ones, "pairs" or "triples"
            that stay together.
        folded: panels that add little, closed at first under `fold_title`.
    """

    title: str
    caption: str
    panels: list[Panel]
    tables: list[Table] = field(default_factory=list)
    static: str = ""
    bar: tuple[str, str, tuple[str, ...]] | None = None
    shape: str = ""
    note: str = ""
    key: str = ""
    folded: list[Panel] = field(default_factory=list)
    fold_title: str = ""
    bar_of_lines: bool = False

    @property
    def every(self) -> list[Panel]:
        """All panels, folded ones last."""
        return [*self.panels, *self.folded]

    @property
    def wide(self) -> bool:
        """Whether the panels are too wide for more than two in a row."""
        return any(p.size in ("matrix", "map", "tall") for p in self.every)


def text_cell(text: object, mark: str = "", hint: str = "") -> Cell:
    """A cell of words."""
    return Cell(str(text), None, mark, hint)


def number_cell(value: float | None, stderr: float | None = None) -> Cell:
    """A cell of a number with its error; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return Cell(MISSING)
    return Cell(with_error(value, stderr), float(value))


def decades_cell(value: float | None) -> Cell:
    """A cell of a number of decades, with its sign."""
    return Cell(MISSING) if value is None or not math.isfinite(value) else Cell(signed(value), float(value))


def share_cell(value: float) -> Cell:
    """A cell of a share, in per cent."""
    return Cell(share_text(value), value if math.isfinite(value) else None)


def value_cell(value: Value | None) -> Cell:
    """A cell of a number of the results table: empty if it was not measured, 'failed' with the reason if it failed."""
    if value is None:
        return Cell("")
    if value.low:
        return Cell(f"{with_error(value.value, value.stderr)} ({AT_FLOOR})", float(value.value), "", value.note)
    if value.ok:
        return number_cell(value.value, value.stderr)
    doubtful = f"{number(value.value)} (doubtful)" if math.isfinite(value.value) else "failed"
    return Cell(doubtful, value.value if math.isfinite(value.value) else None, "failed", value.note)


def plain(text: object) -> str:
    """A name as Plotly must be given it: Plotly reads some HTML, fills in `%{...}`, and takes `$...$` for TeX.

    >>> plain("<b> %{x} $y$"), plain("n^-0.5")
    ('&lt;b&gt; %&#123;x} &#36;y&#36;', 'n<sup>−0.5</sup>')
    """
    return raised(html.escape(str(text), quote=False).replace("%{", "%&#123;").replace("$", "&#36;"))


def clean(value: Any) -> Any:
    """A value for JSON: five significant digits, None for what is not finite, arrays as lists."""
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if hasattr(value, "tolist") and not isinstance(value, str):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """A quiet axis. `title` must be escaped already if it holds a name."""
    quiet = {
        "title": {"text": title, "font": {"size": 12}, "standoff": 6},
        "gridcolor": look.GRID,
        "zeroline": False,
        "linecolor": look.QUIET,
        "ticks": "outside",
        "ticklen": 3,
        "tickcolor": look.QUIET,
        "tickfont": {"size": 11},
    }
    return {**quiet, **more}


def log_axis(title: str, values: Iterable[float | None] = (), **more: Any) -> dict[str, Any]:
    """A logarithmic axis for these values: at least two labels, and few enough for a small panel.

    Decades alone are labelled where two of them are in reach: the digits between them would run into each other.
    """
    ticks = log_ticks(values)
    # Plotly sets the labels of decades a quarter larger than asked for.
    marks: dict[str, Any] = {"dtick": 1, "exponentformat": "power", "tickfont": {"size": 9}}
    if ticks:
        marks = {"tickvals": list(ticks), "ticktext": [tick_text(tick) for tick in ticks]}
    return axis(title, **{"type": "log", **marks, **more})


def layout(xaxis: Mapping[str, Any], yaxis: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A layout without decoration; legends are part of the page, not of the plots."""
    # Room for labels grows across the axis only: slanted labels that also push sideways make Plotly's layout oscillate.
    base = {
        "xaxis": {"automargin": "height", **xaxis},
        "yaxis": {"automargin": "width", **yaxis},
        "showlegend": False,
        "margin": {"l": 48, "r": 12, "t": 10, "b": 44},
        "paper_bgcolor": look.PAPER,
        "plot_bgcolor": look.PAPER,
        "font": {"family": FONT, "size": 12, "color": look.INK},
        "hoverlabel": {"bgcolor": look.PAPER, "bordercolor": look.QUIET, "font": {"color": look.INK}, "align": "left"},
        "hovermode": "closest",
        "dragmode": False,
    }
    return {**base, **more}


def note(x: Any, y: Any, text: str, **more: Any) -> dict[str, Any]:
    """A small annotation without an arrow; `text` must be escaped already if it holds a name."""
    return {"x": x, "y": y, "text": text, "showarrow": False, "font": {"size": 11, "color": look.QUIET}, **more}


def error_bars(errors: Sequence[float | None]) -> dict[str, Any]:
    """Bars of one standard error; none where the error is not known."""
    return {"type": "data", "array": [e if e is not None else 0.0 for e in errors], "thickness": 1, "width": 2}


def grid(titles: Iterable[str], rows: Iterable[tuple[str, Iterable[Cell]]], title: str = "") -> Table:
    """A table from column titles and (heading, cells) rows."""
    return Table(title, tuple(titles), [[text_cell(head), *cells] for head, cells in rows])
