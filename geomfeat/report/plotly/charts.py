"""Curves and maps of a lab experiment as interactive panels: measurements as marks, theory as dashed lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from geomfeat.charts import Curve, Heat, Plot, theme as look
from geomfeat.charts.curve_style import bare, bars_of, curve_colours, largest_size, lower_errors
from geomfeat.report.content.components import (  # fmt: skip
    Figure,
    Key,
    Panel,
    Table,
    axis,
    error_bars,
    grid,
    layout,
    log_axis,
    number_cell,
    plain,
    text_cell,
)
from geomfeat.report.content.symbol_paths import symbol_path

MODES = {"measured": "lines+markers", "theory": "lines", "scatter": "markers"}
ROW = 19  # pixels of a row with a name
ROW_HEIGHT = 290  # pixels of a plot that stands in a row of several
MOST_ROWS = 400  # rows of a table in the page; a map with more cells is in the results table only


def lab_figure(plot: Plot | Heat, static: str = "") -> Figure:
    """A plot of an experiment as a figure of the page: one panel, its caption and its numbers."""
    panel = chart_panel(plot)
    table = _curves_table(plot) if isinstance(plot, Plot) else _map_table(plot)
    return Figure(plot.title, plot.caption, [panel], [table] if table else [], static=static)


def row_figure(title: str, plots: Sequence[Plot | Heat], static: str = "") -> Figure:
    """Plots of one kind side by side, with one caption (the longest: it says what any of them shows)."""
    tables = [_curves_table(plot) if isinstance(plot, Plot) else _map_table(plot) for plot in plots]
    caption = max((plot.caption for plot in plots), key=len, default="")
    panels = [_in_row(chart_panel(plot)) for plot in plots]
    return Figure(title, caption, panels, [table for table in tables if table], static=static, shape="triples")


def _in_row(panel: Panel) -> Panel:
    """Lower, and with a bare colour scale: the panel's title says what it is of."""
    data = [
        {**trace, "colorbar": {k: v for k, v in trace["colorbar"].items() if k != "title"}}
        if "colorbar" in trace
        else trace
        for trace in panel.data
    ]
    return replace(panel, data=data, layout={**panel.layout, "height": ROW_HEIGHT}, size="small")


def chart_panel(plot: Plot | Heat) -> Panel:
    """Curves or a map as one panel."""
    return curves_panel(plot) if isinstance(plot, Plot) else _map_panel(plot)


def curves_panel(plot: Plot, model: int | None = None) -> Panel:
    """Curves as one panel; `model`: index of the model that it shows, see `Panel`."""
    curves, data = list(plot.curves), []
    for curve, (colour, number) in zip(curves, curve_colours(curves), strict=True):
        if curve.kind == "band" and curve.error is not None:
            data.append(_band(curve, colour, plot.log_y))
        data.append(_trace(curve, colour, number, plot))
    rows = len(plot.y_ticks)
    frame = layout(
        log_axis(plain(plot.x_label), (x for c in curves for x in c.x)) if plot.log_x else axis(plain(plot.x_label)),
        _rows_axis(plot)
        if rows
        else log_axis(plain(plot.y_label), (y for c in curves for y in c.y))
        if plot.log_y
        else axis(plain(plot.y_label)),
        height=ROW * rows + 70 if rows else 330,
        margin={"l": 56, "r": 14, "t": 10, "b": 46},
    )
    frame["shapes"] = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": start, "x1": stop, "y0": height, "y1": height,
         "line": {"color": bar, "width": 4}}
        for start, stop, height, bar in bars_of(plot)
    ]  # fmt: skip
    if plot.x_ticks:
        ticks = {"tickvals": list(range(len(plot.x_ticks))), "ticktext": [plain(t) for t in plot.x_ticks]}
        frame["xaxis"] = {**frame["xaxis"], **ticks}
    return Panel(plot.title, data, frame, "map", model=model, keys=_keys(curves))


def _band(curve: Curve, colour: str, log_y: bool) -> dict[str, Any]:
    """One standard error above and below a curve, as an area."""
    assert curve.error is not None
    high = [y + e for y, e in zip(curve.y, curve.error, strict=True)]
    low = [y - e for y, e in zip(curve.y, lower_errors(curve, log_y), strict=True)]
    return {
        "type": "scatter", "mode": "lines", "name": plain(curve.label),
        "x": [*curve.x, *reversed(curve.x)], "y": [*high, *reversed(low)],
        "fill": "toself", "fillcolor": colour, "opacity": 0.22, "line": {"width": 0, "color": colour},
        "hoverinfo": "skip",
    }  # fmt: skip


def _rows_axis(plot: Plot) -> dict[str, Any]:
    """Names of rows, from the top."""
    rows = len(plot.y_ticks)
    marks = {"tickvals": list(range(rows)), "ticktext": [plain(t) for t in plot.y_ticks]}
    return axis(plain(plot.y_label), range=[rows - 0.5, -0.5], **marks)


def _keys(curves: list[Curve]) -> list[Key]:
    """The legend of curves that have a name."""
    return [
        Key(
            c.label, colour, {"theory": "dash", "scatter": ""}.get(c.kind, "solid"),
            "" if bare(c) else symbol_path(look.symbol(number)),
        )
        for c, (colour, number) in zip(curves, curve_colours(curves), strict=True)
        if c.label
    ]  # fmt: skip


def _trace(curve: Curve, colour: str, number: int, plot: Plot | None = None) -> dict[str, Any]:
    theory = curve.kind == "theory"
    line = {"color": colour, "width": 1.5, "dash": "dash" if theory else "solid"}
    trace: dict[str, Any] = {
        "type": "scatter", "mode": "lines" if bare(curve) else MODES[curve.kind], "name": plain(curve.label),
        "x": list(curve.x), "y": list(curve.y), "line": line,
        "hovertemplate": f"{plain(curve.label)}<br>%{{x:.4g}}: %{{y:.4g}}<extra></extra>",
    }  # fmt: skip
    if not bare(curve):
        trace["marker"] = {"color": colour, "symbol": look.symbol(number), "size": 6}
    if curve.error is not None and curve.kind != "band":
        along_x = plot is not None and bool(plot.y_ticks)
        down = {"symmetric": False, "arrayminus": lower_errors(curve, plot is not None and plot.log_y)}
        bars = error_bars(list(curve.error)) if along_x else {**error_bars(list(curve.error)), **down}
        trace["error_x" if along_x else "error_y"] = {**bars, "color": colour}
    return trace


def _map_panel(heat: Heat) -> Panel:
    scale, bar, limits = _colours(heat)
    hover = {"text": [list(row) for row in heat.hints], "hovertemplate": "%{text}<extra></extra>"} if heat.hints else {
        "hovertemplate": f"%{{x:.3g}}, %{{y:.3g}}: %{{z:.3g}} {plain(heat.value_label)}<extra></extra>"
    }  # fmt: skip
    data = [{
        "type": "heatmap", "x": list(heat.x), "y": list(heat.y), "z": [list(row) for row in heat.values],
        "colorscale": scale, "colorbar": bar, **limits, "hoverongaps": True, **hover,
    }]  # fmt: skip
    ink = look.ON_LIGHT if heat.centered else look.ON_DARK  # the middle of a diverging scale is light
    for line in heat.lines:
        data.append(
            {**_trace(line, ink, 0), "mode": "lines", "line": {"color": ink, "width": 1 if heat.centered else 2,
             "dash": "dash" if line.kind == "theory" else "solid"}}
        )  # fmt: skip
    data += [_marks_trace(curve, i) for i, curve in enumerate(heat.marks)]
    frame = layout(
        axis(plain(heat.x_label), **_ticks(heat.x, heat.x_ticks)),
        axis(plain(heat.y_label), **_ticks(heat.y, heat.y_ticks)),
        height=360,
        margin={"l": 56, "r": 20, "t": 10, "b": 46},
    )
    if heat.x_ticks or heat.y_ticks:
        frame["plot_bgcolor"] = look.GRID  # cells without a number are grey
    return Panel(heat.title, data, frame, "map", keys=_mark_keys(heat))


def _mark_keys(heat: Heat) -> list[Key]:
    """The legend of the marks on a map."""
    signs = [look.PHASE_MARKS.get(curve.label, (look.symbol(i), ""))[0] for i, curve in enumerate(heat.marks)]
    return [
        Key(curve.label, look.WARNING, "", symbol_path(sign), open=True)
        for curve, sign in zip(heat.marks, signs, strict=True)
    ]


def _colours(heat: Heat) -> tuple[list[list[Any]], dict[str, Any], dict[str, Any]]:
    """(colour scale, its bar, limits of the values)."""
    n = len(heat.categories)
    if n:  # one flat colour for every class, and its name next to it
        colours = [look.CIVIDIS[round(i * (len(look.CIVIDIS) - 1) / max(n - 1, 1))] for i in range(n)]
        scale: list[list[Any]] = [[edge, colours[i]] for i in range(n) for edge in (i / n, (i + 1) / n)]
        bar: dict[str, Any] = {
            "thickness": 12, "tickvals": list(range(n)), "ticktext": [plain(c) for c in heat.categories]
        }  # fmt: skip
        return scale, bar, {"zmin": -0.5, "zmax": n - 0.5}
    bar = {"title": {"text": plain(heat.value_label), "side": "right"}, "thickness": 12}
    steps = look.DIVERGING if heat.centered else look.CIVIDIS
    scale = [[i / (len(steps) - 1), c] for i, c in enumerate(steps)]
    if not heat.centered:
        return scale, bar, {}
    most = largest_size(heat)
    return scale, bar, {"zmin": -most, "zmax": most}


def _marks_trace(curve: Curve, number: int) -> dict[str, Any]:
    sign, _ = look.PHASE_MARKS.get(curve.label, (look.symbol(number), ""))
    return {
        "type": "scatter", "mode": "markers", "name": plain(curve.label), "x": list(curve.x), "y": list(curve.y),
        "marker": {"symbol": sign, "size": 13, "color": look.WARNING, "line": {"color": look.WARNING, "width": 2.5}},
        "hoverinfo": "skip",
    }  # fmt: skip


def _ticks(values: Sequence[float], texts: Sequence[str]) -> dict[str, Any]:
    if not texts:
        return {"range": [min(values), max(values)]}
    first, last = cell_ends(values)
    return {"tickvals": list(values), "ticktext": [plain(t) for t in texts], "range": [first, last]}


def cell_ends(values: Sequence[float]) -> tuple[float, float]:
    """Where the first cell begins and the last one ends, for cells about ascending values.

    >>> cell_ends([0.0, 1.0, 3.0])
    (-0.5, 4.0)
    """
    if len(values) < 2:
        return values[0] - 0.5, values[0] + 0.5
    return values[0] - (values[1] - values[0]) / 2, values[-1] + (values[-1] - values[-2]) / 2


def _curves_table(plot: Plot) -> Table | None:
    rows = [
        (c.label, [text_cell(c.kind), number_cell(float(x)), number_cell(float(y), None if e is None else float(e))])
        for c in plot.curves
        for x, y, e in zip(c.x, c.y, c.error if c.error is not None else [None] * len(c.x), strict=True)
    ]
    return grid(("curve", "", plot.x_label, plot.y_label), rows, plot.title) if len(rows) <= MOST_ROWS else None


def _map_table(heat: Heat) -> Table | None:
    if len(heat.x) * len(heat.y) > MOST_ROWS:
        return None
    name = lambda v: text_cell(heat.categories[int(v)]) if heat.categories else number_cell(float(v))  # noqa: E731
    across, down = (list(t) or [f"{v:.4g}" for v in of] for of, t in ((heat.x, heat.x_ticks), (heat.y, heat.y_ticks)))
    rows = [(y, [name(v) for v in row]) for y, row in zip(down, heat.values, strict=True)]
    return grid((f"{heat.y_label} \\ {heat.x_label}", *across), rows, heat.title)
