"""Where the models sit: the richness scale, and the plane of demand and movement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from geomfeat.charts import theme as look
from geomfeat.location.regimes import LAZY_BELOW, RICH_DEMAND
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
from geomfeat.report.content.location_data import column, located, on_scale, plane_ranges, regime_areas, scale_range
from geomfeat.report.content.number_format import richness_text, signed, size_words
from geomfeat.report.content.study_view import View, clipped


def scale_text(where: Location) -> str:
    """The text next to a model's name on the richness scale.

    >>> import pandas as pd
    >>> scale_text(Location(0.3, 0.2, 0.4, -math.inf, math.nan, "initial", None, False, "frozen", pd.DataFrame()))
    'frozen: no hidden feature moved, so R is not defined'
    """
    return "frozen: no hidden feature moved, so R is not defined" if where.is_frozen else richness_text(where)


def _decade_ticks(low: float, high: float) -> dict[str, Any]:
    ticks = list(range(math.ceil(low), math.floor(high) + 1))
    words = {t: size_words(float(t)).removesuffix(" of").replace(" times", "×") for t in ticks}
    return {
        "tickvals": ticks,
        "ticktext": [f"{signed(t, 0).replace('-', '−') if t else '0'}<br>{words[t]}" for t in ticks],
    }


def richness_scale(several: Sequence[View]) -> Figure | None:
    """Every model on one axis from lazy to rich: R, its interval, the floor, and the bands of the regimes."""
    found = located(several)
    if not found:
        return None
    low, high = scale_range(found)
    bands = ((low, LAZY_BELOW, "lazy"), (LAZY_BELOW, RICH_DEMAND, "transition"), (RICH_DEMAND, high, "rich"))
    data, marks, rows = [], [], []
    for row, (view, where) in enumerate(found):
        y = len(found) - row
        data += _scale_traces(view, where, y)
        text = f"{plain(clipped(view.name, 24))}  <b>{plain(scale_text(where).replace('-', '−'))}</b>"
        marks.append(note(0.01, y, text, xref="paper", xanchor="left", yshift=15, font={"size": 12, "color": look.INK}))
        marks[-1]["bgcolor"] = "rgba(255,255,255,0.6)"
        rows.append((view.name, _location_cells(where)))
    top = len(found) + 0.95
    marks += [note((a + b) / 2, top - 0.12, name, font={"size": 12, "color": look.INK}) for a, b, name in bands]
    title = "richness R, decades"
    panel = Panel(
        "Richness of each model",
        data,
        layout(
            axis(plain(title), range=[low, high], **_decade_ticks(low, high)),
            axis("", range=[0.4, top + 0.1], visible=False),
            shapes=[_band(a, b, look.tint(name)) for a, b, name in bands],
            annotations=marks,
            margin={"l": 12, "r": 12, "t": 8, "b": 64},
            height=110 + 62 * len(found),
        ),
        "wide",
    )
    caption = (
        f"From left (lazy: features had to move by less than {size_words(LAZY_BELOW)} their size) to right (rich: by "
        f"more than {size_words(RICH_DEMAND)} it), judged by the demand on features alone: a model's regime also takes "
        "its movement and its tangent kernel into account. Dots are the models, bars their 90 % intervals; a vertical "
        "stroke is the floor, below which R means nothing; an arrow to the left means 'at most'. A frozen model has no "
        "dot. The axis gives R in decades and, below, the required movement as a share of the features' size."
    )
    columns = ("model", "richness R", "low", "high", "movement M", "excess E", "floor", "kernel demand κ",
               "kernel change", "linearisation gap", "metric", "start", "regime")  # fmt: skip
    return Figure("The richness scale", caption, [panel], [grid(columns, rows)], "richness_scale")


def _location_cells(where: Location) -> list[Cell]:
    numbers = [where.richness, where.low, where.high, where.movement, where.excess, where.floor]
    cells = [decades_cell(v) for v in numbers]
    if where.at_most:
        cells[0] = Cell(f"at most {cells[0].text}", cells[0].value)
    start = "true initial weights" if where.tier == "initial" else "fresh re-initialisations"
    kernel = [decades_cell(where.kernel_demand), share_cell(where.kernel_change), share_cell(where.linearisation_gap)]
    words = [text_cell(where.metric), text_cell(start), text_cell(where.regime, where.regime)]
    return [*cells, *kernel, *words]


def _band(x0: float, x1: float, fill: str) -> dict[str, Any]:
    return {
        "type": "rect", "xref": "x", "yref": "paper", "x0": x0, "x1": x1, "y0": 0, "y1": 1,
        "fillcolor": fill, "opacity": 0.55, "line": {"width": 0}, "layer": "below",
    }  # fmt: skip


def _scale_traces(view: View, where: Location, y: float) -> list[dict[str, Any]]:
    if not on_scale(where):
        return []
    meta = {"model": view.index}
    known = math.isfinite(where.low) and math.isfinite(where.high)
    bars = {
        "type": "data", "symmetric": False, "array": [max(where.high - where.richness, 0.0)],
        "arrayminus": [max(where.richness - where.low, 0.0)], "thickness": 3, "width": 7,
    } if known else {"visible": False}  # fmt: skip
    mark = "triangle-left" if where.at_most else look.symbol(view.index)
    point = {
        "type": "scatter", "mode": "markers", "x": [where.richness], "y": [y], "error_x": bars, "meta": meta,
        "marker": {"size": 13, "color": view.colour, "symbol": mark, "line": {"color": "#ffffff", "width": 1}},
        "customdata": [[plain(view.name), plain(richness_text(where))]],
        "hovertemplate": "%{customdata[0]}<br>R = %{customdata[1]} decades<extra></extra>",
    }  # fmt: skip
    if where.floor is None or not math.isfinite(where.floor):
        return [point]
    floor = {
        "type": "scatter", "mode": "markers", "x": [where.floor], "y": [y], "meta": meta,
        "marker": {"size": 20, "symbol": "line-ns-open", "color": look.FLOOR, "line": {"width": 3}},
        "hovertemplate": f"floor of re-initialisation: {signed(where.floor)} decades<extra></extra>",
    }  # fmt: skip
    return [floor, point]


def demand_movement_plane(several: Sequence[View]) -> Figure | None:
    """Every layer of every model by how far it had to move (R) and how far it did (M)."""
    found = located(several)
    if not found:
        return None
    x, y = plane_ranges(several)
    shapes = [_band(x[0], x[1], look.tint("transition"))]
    for name, polygons in regime_areas(x, y).items():
        for polygon in polygons:
            path = "M" + "L".join(f"{a},{b}" for a, b in polygon) + "Z"
            shapes.append(
                {"type": "path", "path": path, "fillcolor": look.tint(name), "line": {"width": 0}, "layer": "below"}
            )
    ends = max(x[0], y[0]), min(x[1], y[1])
    diagonal = {
        "type": "scatter", "mode": "lines", "x": list(ends), "y": list(ends), "hoverinfo": "skip",
        "line": {"color": look.INK, "width": 1.5, "dash": "dash"},
    }  # fmt: skip
    places = {
        "lazy": ((x[0] + LAZY_BELOW) / 2, y[0] + 0.08),
        "transition": ((LAZY_BELOW + RICH_DEMAND) / 2, LAZY_BELOW - 0.35),
        "rich": ((RICH_DEMAND + x[1]) / 2, y[0] + 0.08), "moved by the optimizer": ((x[0]) / 2, y[1] - 0.12),
    }  # fmt: skip
    marks = [note(a, b, f"<b>{name}</b>", font={"size": 12, "color": look.INK}) for name, (a, b) in places.items()]
    inside = ends[1] - 0.06 * (ends[1] - ends[0])
    marks.append(note(inside, inside, "M = R", xanchor="right", yanchor="bottom", xshift=-8))
    panel = Panel(
        "Demand and movement of every layer",
        [diagonal, *(trace for view, where in found for trace in _plane_traces(view, where))],
        layout(
            axis("demand R, decades (required movement)", range=list(x)),
            axis("movement M, decades (actual movement)", range=list(y)),
            shapes=shapes,
            annotations=marks,
        ),
        "tall",
    )
    caption = (
        "Each small mark is a layer (larger = deeper, joined from input to output), the ringed mark is the whole "
        "model. On the dashed line a layer moved exactly as far as its linear response required; above it further, "
        "below it less. The areas are the regimes of layers, by their features alone. Frozen layers have no mark."
    )
    rows = [
        (view.name, [text_cell(row["layer"]), *(decades_cell(row.get(c)) for c in ("richness", "movement", "excess")),
                     text_cell(row["regime"], str(row["regime"]))])
        for view, where in found for row in where.layers.to_dict("records")
    ]  # fmt: skip
    tables = [grid(("model", "layer", "demand R", "movement M", "excess E", "regime"), rows)]
    fresh = [view.name for view, where in found if where.tier != "initial"]
    reading = (
        f"The movement of {', '.join(fresh)} is from fresh draws, not from the initial weights: it means little."
        if fresh
        else ""
    )
    return Figure("", caption, [panel], tables, "demand_movement_plane", note=reading)


def _plane_traces(view: View, where: Location) -> list[dict[str, Any]]:
    meta, n = {"model": view.index}, max(len(where.layers), 1)
    mark = {"color": view.colour, "symbol": look.symbol(view.index), "line": {"color": "#ffffff", "width": 0.8}}
    names = [[plain(view.name), plain(row.get("layer", ""))] for row in where.layers.to_dict("records")]
    hover = "%{customdata[0]}<br>%{customdata[1]}<br>R = %{x:+.2f}, M = %{y:+.2f}<extra></extra>"
    layers = {
        "type": "scatter", "mode": "lines+markers", "x": column(where, "richness"), "y": column(where, "movement"),
        "customdata": names, "hovertemplate": hover, "meta": meta, "line": {"color": view.colour, "width": 1},
        "marker": {**mark, "size": [7 + 6 * i / max(n - 1, 1) for i in range(n)]}, "opacity": 0.85,
    }  # fmt: skip
    whole = {
        "type": "scatter", "mode": "markers", "x": [where.richness], "y": [where.movement], "meta": meta,
        "customdata": [[plain(view.name), "the whole model"]], "hovertemplate": hover,
        "marker": {**mark, "size": 17, "line": {"color": look.INK, "width": 2.5}},
    }  # fmt: skip
    return [layers, whole]
