"""Profiles: every measure of a layer against depth, initial and trained, one small panel for each quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geomfeat.charts import theme as look
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR
from geomfeat.report.content.components import (  # fmt: skip
    Cell,
    Figure,
    Panel,
    Table,
    axis,
    error_bars,
    grid,
    layout,
    log_axis,
    plain,
    value_cell,
)
from geomfeat.report.content.folded_panels import folded
from geomfeat.report.content.profile_data import floor_values, lines_of, moments_of, profile_entries
from geomfeat.report.content.quantity_labels import GROUPS, OF_BARS, Entry, Group, entries
from geomfeat.report.content.shared_parts import names_of
from geomfeat.report.content.study_view import (
    AT_WORDS,
    CHANGE,
    CROWDED,
    INITIAL,
    Depth,
    View,
    depth_axis,
)


def profile_figures(several: Sequence[View]) -> list[Figure]:
    """One figure of small panels for each group of quantities that the studies hold."""
    depth = depth_axis(several)
    chosen = profile_entries(several)
    return [_figure(several, depth, group, found) for group in GROUPS if (found := chosen.get(group.key))]


def _figure(several: Sequence[View], depth: Depth, group: Group, found: list[Entry]) -> Figure:
    panels = [_panel(several, depth, entry, group.key) for entry in found]
    parts = folded(panels, found)
    tables = [_table(several, entry, group.key) for entry in found]
    bars = "" if group.key == "movement" else f" {OF_BARS}"
    lost = sum(
        not value.ok
        for view in several
        for entry in found
        for at in moments_of(group.key)
        for value in view.at(at, entry.measure, entry.quantity).values()
    )
    note = f"{lost} of these values failed and are missing from the lines: see the failures below." if lost else ""
    shared = "Grey dots with open marks: the start that several models share." if _shares_start(panels) else ""
    return Figure(
        group.title, group.caption + bars, parts.shown, tables,
        note=" ".join(filter(None, (shared, note))), key=group.key, folded=parts.closed, fold_title=parts.title,
    )  # fmt: skip


def _shares_start(panels: Sequence[Panel]) -> bool:
    return any(trace["meta"] == {"at": INITIAL} for panel in panels for trace in panel.data)


def _panel(several: Sequence[View], depth: Depth, entry: Entry, group: str) -> Panel:
    data: list[dict[str, Any]] = []
    for at in moments_of(group):
        for members in lines_of(several, entry, at):
            if len(members) > 1:
                data.append(_shared_line(members, several, depth, entry))
            else:
                data += [trace for view in members if (trace := _line(view, depth, entry, at)) is not None]
    data += [
        trace for view in several for at in moments_of(group) if (trace := _low(view, depth, entry, at)) is not None
    ]
    data += [trace for view in several if (trace := _floor(view, depth, entry)) is not None]
    logarithmic = entry.log and all(y is None or y > 0 for trace in data for y in trace["y"])
    tickvals = {
        "tickvals": list(depth.ticks),
        "ticktext": [plain(label).replace("\n", "<br>") for label in depth.labels],
    }
    slant = {"tickangle": -40} if depth.kind == "name" and sum(map(len, depth.labels)) > 24 else {"tickangle": 0}
    x = axis(depth.title, range=_reach(several, depth), **tickvals, **slant)
    y = (
        log_axis(plain(entry.axis), (y for trace in data for y in trace["y"]))
        if logarithmic
        else axis(plain(entry.axis), rangemode="nonnegative" if _positive(data) else "normal")
    )
    return Panel(entry.title, data, layout(x, y))


def _positive(data: list[dict[str, Any]]) -> bool:
    return all(y >= 0 for trace in data for y in trace["y"] if y is not None)


def _reach(several: Sequence[View], depth: Depth) -> list[float]:
    last = 100.0 if depth.kind == "share" else float(max(len(view.layers) for view in several))
    first = 0.0 if depth.kind == "share" else 1.0
    pad = 0.06 * max(last - first, 1.0)
    return [first - pad, last + pad]


def _line(view: View, depth: Depth, entry: Entry, at: str) -> dict[str, Any] | None:
    found = view.at(at, entry.measure, entry.quantity)
    values = [(layer, found[layer]) for layer in view.layers if layer in found]
    if not any(v.drawn is not None for _, v in values):
        return None
    early = at == INITIAL
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines" if len(values) > CROWDED else "lines+markers",
        "x": [depth.position(view, layer) for layer, _ in values],
        "y": [v.drawn for _, v in values],
        "customdata": [[plain(view.name), plain(layer)] for layer, _ in values],
        "hovertemplate": f"%{{customdata[0]}}, {AT_WORDS[at]}<br>%{{customdata[1]}}: %{{y:.4g}}<extra></extra>",
        "line": {"color": view.colour, "width": 1.4 if early else 2.2, "dash": "dot" if early else "solid"},
        "marker": {"color": view.colour, "size": 6, "symbol": look.symbol(view.index) + ("-open" if early else "")},
        "opacity": 0.75 if early else 1.0,
        "connectgaps": False,
        "meta": {"model": view.index, "at": at},
    }
    if any(v.stderr for _, v in values):
        thin = {"thickness": 0.5, "width": 0} if len(values) > CROWDED else {}
        trace["error_y"] = {**error_bars([v.stderr for _, v in values]), "color": view.colour, **thin}
    return trace


def _shared_line(members: list[View], several: Sequence[View], depth: Depth, entry: Entry) -> dict[str, Any]:
    """The line of a start that several models share, in no model's colour."""
    trace = _line(members[0], depth, entry, INITIAL)
    assert trace is not None
    name = plain(f"start of {names_of(members, several)}")
    trace["customdata"] = [[name, layer] for _, layer in trace["customdata"]]
    trace["line"]["color"] = trace["marker"]["color"] = look.QUIET
    trace["marker"]["symbol"] = "circle-open"
    trace["meta"] = {"at": INITIAL}
    if "error_y" in trace:
        trace["error_y"]["color"] = look.QUIET
    return trace


def _low(view: View, depth: Depth, entry: Entry, at: str) -> dict[str, Any] | None:
    """Marks of numbers at the floor, outside of the lines."""
    found = view.at(at, entry.measure, entry.quantity)
    values = [(layer, found[layer]) for layer in view.layers if layer in found and found[layer].low]
    if not values:
        return None
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [depth.position(view, layer) for layer, _ in values],
        "y": [v.value for _, v in values],
        "customdata": [[plain(view.name), plain(layer)] for layer, _ in values],
        "hovertemplate": f"%{{customdata[0]}}, {AT_WORDS[at]}<br>%{{customdata[1]}}: %{{y:.4g}}, {AT_FLOOR}"
        "<extra></extra>",
        "marker": {"color": view.colour, "size": 6, "symbol": "x-thin-open", "line": {"width": 1.5}},
        "opacity": 0.6,
        "meta": {"model": view.index, "at": at},
    }


def _floor(view: View, depth: Depth, entry: Entry) -> dict[str, Any] | None:
    found = floor_values(view, entry)
    values = [(layer, found[layer]) for layer in view.layers if layer in found]
    if not any(v.drawn is not None for _, v in values):
        return None
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [depth.position(view, layer) for layer, _ in values],
        "y": [v.drawn for _, v in values],
        "customdata": [plain(layer) for layer, _ in values],
        "hovertemplate": "floor<br>%{customdata}: %{y:.3f}<extra></extra>",
        "line": {"color": look.FLOOR, "width": 2, "dash": "1px,3px"},
        "meta": {"model": view.index},
    }


def _table(several: Sequence[View], entry: Entry, group: str) -> Table:
    moments = moments_of(group)
    columns = [(v, at) for v in several for at in moments if v.at(at, entry.measure, entry.quantity)]
    floors = [(v, found) for v in several if (found := floor_values(v, entry))]
    # Some diagnostics also measure layers that are not hidden, like the readout: these are in the table only.
    places = [(*v.layers, *v.at(at, entry.measure, entry.quantity)) for v, at in columns]
    layers = [layer for layer in dict.fromkeys(layer for some in places for layer in some) if layer]
    heads = [view.name if len(moments) == 1 else f"{view.name}, {AT_WORDS[at]}" for view, at in columns]
    heads += [f"{view.name}, floor" for view, _ in floors]
    rows: list[tuple[str, list[Cell]]] = []
    for layer in layers:
        cells = [value_cell(v.at(at, entry.measure, entry.quantity).get(layer)) for v, at in columns]
        rows.append((layer, cells + [value_cell(found.get(layer)) for _, found in floors]))
    return grid(("layer", *heads), rows, f"{entry.title} ({entry.axis})")


def whole_network(several: Sequence[View]) -> Table | None:
    """The movement diagnostics of whole networks: one row for each quantity, one column for each model."""
    present = {
        (measure, quantity)
        for view in several
        for (at, measure, quantity), found in view.numbers.items()
        if at == CHANGE and "" in found
    }
    rows = [
        (entry.title, [value_cell(v.at(CHANGE, entry.measure, entry.quantity).get("")) for v in several])
        for entry in entries(present, change=True)
    ]
    return grid(("quantity, whole network", *(v.name for v in several)), rows) if rows else None
