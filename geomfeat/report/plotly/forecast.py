"""Where a forecast puts a training: on the plane of features and kernel with its advice, and by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from geomfeat.charts import theme as look
from geomfeat.forecasting.result import Forecast
from geomfeat.location.advice import Advice, AdvisedChange
from geomfeat.location.regimes import LAZY_BELOW, RICH_DEMAND
from geomfeat.report.content.components import (
    Cell,
    Figure,
    Key,
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
from geomfeat.report.content.kernel_plane_data import Place, Span, area_names, drawn_at, kernel_areas
from geomfeat.report.content.location_data import padded_range
from geomfeat.report.content.number_format import signed
from geomfeat.report.content.symbol_paths import symbol_path
from geomfeat.report.plotly.kernel_plane import area

X_TITLE, Y_TITLE = "features: demand R, decades", "kernel: demand κ, decades"
PLANE = (
    "Features from left (at rest) to right (moved), tangent kernel from bottom (at rest) to top (moved). The filled "
    "mark is where training is expected to go, with 90 % intervals; open marks are where the advised changes lead. "
    "Triangles at an edge stand for infinite values."
)
LAYERS = (
    "Expected demand R of each hidden layer, with its 90 % interval. Dashed lines: features rest below R = "
    f"{LAZY_BELOW:g}, and moved above {RICH_DEMAND:g}."
).replace("-", "−")
COLUMNS = ("layer", "demand R", "low", "high", "movement M", "regime of its features", "share of the kernel's change")


def forecast_figures(expected: Forecast, advice: Advice | None) -> list[Figure]:
    """The figures of the page; the plane only where both coordinates are known."""
    found = [_plane(expected, advice), _by_layer(expected)]
    return [figure for figure in found if figure is not None]


def _plane(expected: Forecast, advice: Advice | None) -> Figure | None:
    own = Place(
        expected.richness, expected.kernel_demand, _span(expected.low, expected.high),
        _span(*expected.kernel_intervals.get("kernel_demand", (math.nan, math.nan))),
    )  # fmt: skip
    if not own.known:
        return None
    changes = [change for change in (advice.changes if advice else ()) if _place(change).known]
    places = [own, *map(_place, changes)]
    x = padded_range([v for p in places for v in (p.x, *(p.across or ()))], (-1.5, 1.0))
    y = padded_range([v for p in places for v in (p.y, *(p.along or ()))], (-1.25, 1.25))
    shapes = [area((x, y), look.tint("transition"))]
    shapes += [area(box, look.tint(name)) for name, box in kernel_areas(x, y).items()]
    names = [
        note(a, b, f"<b>{name.replace(', ', ',<br>')}</b>", yanchor=side, font={"size": 12, "color": look.INK})
        for name, (a, b, side) in area_names(x, y).items()
    ]
    traces = [_mark(own, x, y, "without a change", 0)]
    for number, change in enumerate(changes, 1):
        traces += [_way(own, _place(change), x, y, number), _mark(_place(change), x, y, change.kind, number)]
    keys = [_key(own, x, y, "without a change", 0)]
    keys += [_key(_place(change), x, y, change.kind, number) for number, change in enumerate(changes, 1)]
    panel = Panel(
        "Expected place on the plane of features and kernel", traces,
        layout(axis(X_TITLE, range=list(x)), axis(Y_TITLE, range=list(y)), shapes=shapes, annotations=names), "tall",
        keys=keys,
    )  # fmt: skip
    rows = [("without a change", _cells(own, expected.regime))]
    rows += [(change.kind, _cells(_place(change), change.regime)) for change in changes]
    table = grid(("change", "demand R", "kernel demand κ", "regime"), rows)
    return Figure("On the plane of features and kernel", PLANE, [panel], [table], "place")


def _place(change: AdvisedChange) -> Place:
    return Place(change.richness, change.kernel_demand, _span(change.low, change.high))


def _cells(place: Place, regime: str) -> list[Cell]:
    return [decades_cell(place.x), decades_cell(place.y), text_cell(regime, regime)]


def _symbol(edge: str, number: int) -> str:
    return f"triangle-{edge}" if edge else look.symbol(number)


def _key(place: Place, x: Span, y: Span, name: str, number: int) -> Key:
    """The legend of a mark: names beside marks would lie over each other, as changes lead to one place."""
    symbol = _symbol(drawn_at(place, x, y)[2], number)
    return Key(name, look.colour(number), "" if number == 0 else "solid", symbol_path(symbol), open=number > 0)


def _mark(place: Place, x: Span, y: Span, name: str, number: int) -> dict[str, Any]:
    a, b, edge = drawn_at(place, x, y)
    symbol = _symbol(edge, number)
    style = {"size": 14, "symbol": symbol, "line": {"color": look.PAPER, "width": 1}} if number == 0 else {
        "size": 11, "symbol": f"{symbol}-open", "line": {"width": 2}
    }  # fmt: skip
    return {
        "type": "scatter", "mode": "markers", "x": [a], "y": [b], "cliponaxis": False,
        "marker": {"color": look.colour(number), **style},
        "error_x": _bars(place.x, place.across, number), "error_y": _bars(place.y, place.along, number),
        "customdata": [[plain(name), signed(place.x), signed(place.y)]],
        "hovertemplate": "%{customdata[0]}<br>R = %{customdata[1]}<br>κ = %{customdata[2]}<extra></extra>",
    }  # fmt: skip


def _way(start: Place, end: Place, x: Span, y: Span, number: int) -> dict[str, Any]:
    (a, b, _), (c, d, _) = drawn_at(start, x, y), drawn_at(end, x, y)
    return {
        "type": "scatter", "mode": "lines", "x": [a, c], "y": [b, d], "hoverinfo": "skip",
        "line": {"color": look.colour(number), "width": 1},
    }  # fmt: skip


def _bars(value: float, span: Span | None, number: int) -> dict[str, Any]:
    if span is None or not math.isfinite(value):
        return {"visible": False}
    return {
        "type": "data", "symmetric": False, "array": [max(span[1] - value, 0.0)],
        "arrayminus": [max(value - span[0], 0.0)], "thickness": 1.2, "width": 3, "color": look.colour(number),
    }  # fmt: skip


def _by_layer(expected: Forecast) -> Figure:
    rows = expected.layers.to_dict("records")
    known = [row for row in rows if math.isfinite(row["richness"])]
    names = [plain(row["layer"]) for row in known]
    trace = {
        "type": "scatter", "mode": "lines+markers", "x": list(range(len(known))), "y": [r["richness"] for r in known],
        "text": names, "marker": {"color": look.colour(0), "size": 9}, "line": {"color": look.colour(0), "width": 1},
        "error_y": {
            "type": "data", "symmetric": False, "array": _ends(known, "high", 1), "arrayminus": _ends(known, "low", -1),
            "thickness": 1.2, "width": 3, "color": look.colour(0),
        },
        "hovertemplate": "%{text}<br>R = %{y:+.2f}<extra></extra>",
    }  # fmt: skip
    lines = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": at, "y1": at, "layer": "below",
         "line": {"color": look.QUIET, "width": 1, "dash": "dash"}}
        for at in (LAZY_BELOW, RICH_DEMAND)
    ]  # fmt: skip
    ticks = axis("hidden layer, from input to output", tickvals=list(range(len(known))), ticktext=names)
    panel = Panel(
        "Expected demand by layer", [trace], layout(ticks, axis("demand R, decades"), shapes=lines), "wide"
    )  # fmt: skip
    without = [row["layer"] for row in rows if row not in known]
    left_out = f"Not drawn, since no trained weight moves them: {', '.join(without)}." if without else ""
    table = grid(COLUMNS, [(row["layer"], _row(row)) for row in rows])
    return Figure("By layer", LAYERS, [panel] if known else [], [table], "layers", note=left_out)


def _ends(rows: Sequence[dict[str, Any]], name: str, sign: int) -> list[float]:
    return [max(sign * (row[name] - row["richness"]), 0.0) if math.isfinite(row[name]) else 0.0 for row in rows]


def _row(row: dict[str, Any]) -> list[Cell]:
    decades = [decades_cell(row[name]) for name in ("richness", "low", "high", "movement")]
    return [*decades, text_cell(row["regime"], row["regime"]), share_cell(row["kernel_share"])]


def _span(low: float, high: float) -> Span | None:
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
