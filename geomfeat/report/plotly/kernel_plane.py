"""Where the models sit on the plane of features and kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from geomfeat.charts import theme as look
from geomfeat.location.regimes import LAZY_BELOW, RICH_DEMAND, RICH_MOVEMENT, SMALL_CHANGE
from geomfeat.location.result import Location
from geomfeat.report.content.components import (  # fmt: skip
    Cell,
    Figure,
    Panel,
    axis,
    decades_cell,
    grid,
    layout,
    note,
    plain,
    share_cell,
    text_cell,
)
from geomfeat.report.content.kernel_plane_data import (
    MOVED_FROM,
    RESTS_UP_TO,
    X_TITLE,
    Y_TITLE,
    KernelMark,
    Place,
    Span,
    area_names,
    drawn_at,
    kernel_areas,
    kernel_marks,
    kernel_plane_ranges,
    left_out_of_plane,
)
from geomfeat.report.content.location_data import located
from geomfeat.report.content.number_format import signed
from geomfeat.report.content.study_view import View

CAPTION = (
    "Features from left (at rest) to right (moved), tangent kernel from bottom (at rest) to top (moved). A filled mark "
    "is what the learned function demanded of the initial network: R and κ. The small open mark that it is joined to "
    f"is what happened in training: M, and the kernel's measured change, 0 where it is 20 %. Bars are 90 % intervals. "
    f"The areas are those of filled marks: features rest below R = {LAZY_BELOW:g}, and moved above {RICH_DEMAND:g} or, "
    f"where the kernel moved, above {LAZY_BELOW:g}. A model's regime takes both marks into account, and dashed lines "
    f"are for open ones: right of M = {RICH_MOVEMENT:g} the features moved too, and only below a change of "
    f"{100 * SMALL_CHANGE:.0f} % is the kernel at rest. A triangle "
    "that points left is an upper bound of R ('at most'); triangles at an edge stand for infinite values."
).replace("-", "−")
COLUMNS = (
    "model", "demand R", "movement M", "kernel demand κ", "κ, low", "κ, high", "κ_a", "kernel change", "excess E_K",
    "linearisation gap", "gap, low", "gap, high", "metric", "regime",
)  # fmt: skip


def features_kernel_plane(several: Sequence[View]) -> Figure | None:
    """Every model by features and kernel: demand filled, what happened open. None without a kernel demand."""
    marks = kernel_marks(several)
    if not marks:
        return None
    x, y = kernel_plane_ranges(marks)
    shapes = [area((x, y), look.tint("transition"))]
    shapes += [area(box, look.tint(name)) for name, box in kernel_areas(x, y).items()]
    shapes += [threshold((MOVED_FROM, MOVED_FROM), y), threshold(x, (RESTS_UP_TO, RESTS_UP_TO))]
    names = [
        note(a, b, f"<b>{name.replace(', ', ',<br>')}</b>", yanchor=side, font={"size": 12, "color": look.INK})
        for name, (a, b, side) in area_names(x, y).items()
    ]
    panel = Panel(
        "Features and kernel of each model",
        [trace for mark in marks for trace in _traces(mark, x, y)],
        layout(
            axis(X_TITLE, range=list(x)), axis(Y_TITLE, range=list(y)), shapes=shapes, annotations=names,
        ),
        "tall",
    )  # fmt: skip
    rows = [(view.name, _cells(where)) for view, where in located(several)]
    return Figure("", CAPTION, [panel], [grid(COLUMNS, rows)], "features_kernel_plane", note=left_out_of_plane(several))


def area(box: tuple[Span, Span], fill: str) -> dict[str, Any]:
    """A tinted area of the plane, below the marks."""
    (x0, x1), (y0, y1) = box
    return {
        "type": "rect", "xref": "x", "yref": "y", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "fillcolor": fill,
        "line": {"width": 0}, "layer": "below",
    }  # fmt: skip


def threshold(x: Span, y: Span) -> dict[str, Any]:
    """A dashed line across the plot; in its coordinates, since one that spans "paper" is drawn under the areas."""
    return {
        "type": "line", "xref": "x", "yref": "y", "x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1], "layer": "below",
        "line": {"color": look.QUIET, "width": 1, "dash": "dash"},
    }  # fmt: skip


def _traces(mark: KernelMark, x: Span, y: Span) -> list[dict[str, Any]]:
    view, where = mark.view, mark.where
    demand = _point(view, mark.demand, x, y, filled=True, bound=where.at_most)
    if mark.happened is None:
        return [demand]
    happened = _point(view, mark.happened, x, y, filled=False)
    line = {
        "type": "scatter", "mode": "lines", "x": [*demand["x"], *happened["x"]], "y": [*demand["y"], *happened["y"]],
        "meta": {"model": view.index}, "hoverinfo": "skip", "line": {"color": view.colour, "width": 1},
    }  # fmt: skip
    return [line, happened, demand]


def _point(view: View, place: Place, x: Span, y: Span, *, filled: bool, bound: bool = False) -> dict[str, Any]:
    a, b, edge = drawn_at(place, x, y)
    symbol = f"triangle-{edge}" if edge else "triangle-left" if bound else look.symbol(view.index)
    style = {"size": 14, "symbol": symbol, "line": {"color": "#ffffff", "width": 1}} if filled else {
        "size": 10, "symbol": f"{symbol}-open", "line": {"width": 2}
    }  # fmt: skip
    names = ("demanded", "R", "κ") if filled else ("measured", "M", "log10(kernel change / 20 %)")
    return {
        "type": "scatter", "mode": "markers", "x": [a], "y": [b], "meta": {"model": view.index},
        "marker": {"color": view.colour, **style},
        "error_x": _bars(place.x, place.across, view.colour), "error_y": _bars(place.y, place.along, view.colour),
        "customdata": [[plain(view.name), names[0], signed(place.x), signed(place.y)]],
        "hovertemplate": f"%{{customdata[0]}}, %{{customdata[1]}}<br>{names[1]} = %{{customdata[2]}}<br>{names[2]} = "
        "%{customdata[3]}<extra></extra>",
    }  # fmt: skip


def _bars(value: float, span: Span | None, colour: str) -> dict[str, Any]:
    if span is None or not math.isfinite(value):
        return {"visible": False}
    return {
        "type": "data", "symmetric": False, "array": [max(span[1] - value, 0.0)],
        "arrayminus": [max(value - span[0], 0.0)], "thickness": 1.2, "width": 3, "color": colour,
    }  # fmt: skip


def _cells(where: Location) -> list[Cell]:
    low, high = where.kernel_intervals.get("kernel_demand", (math.nan, math.nan))
    gap_ends = where.kernel_intervals.get("linearisation_gap", (math.nan, math.nan))
    decades = (where.richness, where.movement, where.kernel_demand, low, high, where.kernel_demand_on_target)
    return [
        *map(decades_cell, decades), share_cell(where.kernel_change), decades_cell(where.kernel_excess),
        share_cell(where.linearisation_gap), *map(share_cell, gap_ends),
        text_cell(where.metric), text_cell(where.regime, where.regime),
    ]  # fmt: skip
