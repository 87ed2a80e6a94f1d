"""Curves and maps of a lab experiment as interactive panels: measurements as marks, theory as dashed lines."""

from __future__ import annotations

import math
from typing import Any

from geomfeat.lab.findings import Curve, Heat, Plot
from geomfeat.report import look
from geomfeat.report.blocks import (
    Figure,
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
)  # fmt: skip

LEGEND_ROW = 22  # pixels of height that two entries of a legend take
MODES = {"measured": "lines+markers", "theory": "lines", "scatter": "markers"}
MOST_ROWS = 400  # of a table in the page; a map of more cells is in the results table alone


def lab_figure(plot: Plot | Heat, static: str = "") -> Figure:
    """A plot of an experiment as a figure of the page: one panel, its caption and its numbers."""
    panel = _curves_panel(plot) if isinstance(plot, Plot) else _map_panel(plot)
    table = _curves_table(plot) if isinstance(plot, Plot) else _map_table(plot)
    return Figure(plot.title, plot.caption, [panel], [table] if table else [], static=static)


def curve_colours(curves: list[Curve]) -> list[tuple[str, int]]:
    """(colour, mark number) of each curve: a theory line has those of the measurement that its label begins with.

    Theory that stands alone is drawn in the ink of the text, unless all curves are theory.
    """
    measured = [c.label for c in curves if c.kind != "theory"]
    found, alone = [], 0
    for curve in curves:
        own = [i for i, label in enumerate(measured) if curve.label == label or curve.label.startswith(f"{label},")]
        if own:
            found.append((look.colour(own[-1]), own[-1]))
        elif measured:
            found.append((look.INK, 0))
        else:
            found.append((look.colour(alone), alone))
            alone += 1
    return found


def _curves_panel(plot: Plot) -> Panel:
    curves = list(plot.curves)
    data = [_trace(c, *of) for c, of in zip(curves, curve_colours(curves), strict=True)]
    rows = math.ceil(len(curves) / 2)
    frame = layout(
        (log_axis if plot.log_x else axis)(plain(plot.x_label)),
        (log_axis if plot.log_y else axis)(plain(plot.y_label)),
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 11}},
        height=330 + LEGEND_ROW * rows,
        margin={"l": 56, "r": 14, "t": 10, "b": 54 + LEGEND_ROW * rows},
    )
    return Panel(plot.title, data, frame, "map")


def _trace(curve: Curve, colour: str, number: int) -> dict[str, Any]:
    theory = curve.kind == "theory"
    line = {"color": colour, "width": 1.5, "dash": "dash" if theory else "solid"}
    trace: dict[str, Any] = {
        "type": "scatter", "mode": MODES[curve.kind], "name": plain(curve.label),
        "x": list(curve.x), "y": list(curve.y), "line": line,
        "hovertemplate": f"{plain(curve.label)}<br>%{{x:.4g}}: %{{y:.4g}}<extra></extra>",
    }  # fmt: skip
    if not theory:
        trace["marker"] = {"color": colour, "symbol": look.symbol(number), "size": 6}
    if curve.error is not None:
        trace["error_y"] = {**error_bars(list(curve.error)), "color": colour}
    return trace


def _map_panel(heat: Heat) -> Panel:
    n = len(heat.categories)
    colours = [look.CIVIDIS[round(i * (len(look.CIVIDIS) - 1) / max(n - 1, 1))] for i in range(n)]
    scale: list[list[Any]] = [[i / (len(look.CIVIDIS) - 1), c] for i, c in enumerate(look.CIVIDIS)]
    bar: dict[str, Any] = {"title": {"text": plain(heat.value_label), "side": "right"}, "thickness": 12}
    limits: dict[str, Any] = {}
    if n:  # one flat colour for every class, and its name beside it
        scale = [[edge, colours[i]] for i in range(n) for edge in (i / n, (i + 1) / n)]
        bar = {"thickness": 12, "tickvals": list(range(n)), "ticktext": [plain(c) for c in heat.categories]}
        limits = {"zmin": -0.5, "zmax": n - 0.5}
    data = [{
        "type": "heatmap", "x": list(heat.x), "y": list(heat.y), "z": [list(row) for row in heat.values],
        "colorscale": scale, "colorbar": bar, **limits,
        "hovertemplate": f"%{{x:.3g}}, %{{y:.3g}}: %{{z:.3g}} {plain(heat.value_label)}<extra></extra>",
    }]  # fmt: skip
    for line in heat.lines:
        data.append(
            {**_trace(line, "#ffffff", 0), "mode": "lines", "line": {"color": "#ffffff", "width": 2, "dash": "dash"}}
        )
    ends = [(min(v), max(v)) for v in (heat.x, heat.y)]
    frame = layout(
        axis(plain(heat.x_label), range=list(ends[0])),
        axis(plain(heat.y_label), range=list(ends[1])),
        height=400,
        margin={"l": 56, "r": 20, "t": 10, "b": 54},
    )
    return Panel(heat.title, data, frame, "map")


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
    rows = [(f"{y:.4g}", [name(v) for v in row]) for y, row in zip(heat.y, heat.values, strict=True)]
    return grid((f"{heat.y_label} \\ {heat.x_label}", *(f"{x:.4g}" for x in heat.x)), rows, heat.title)
