"""Models over relative depth: matching layers, and profiles of measures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from geomfeat.charts import theme as look
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR, at_floor
from geomfeat.report.content.components import (  # fmt: skip
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
    value_cell,
)
from geomfeat.report.content.quantity_labels import GROUPS, OF_BARS, Entry, entries, floor_of
from geomfeat.report.content.recorded_facts import recorded_words
from geomfeat.report.content.study_view import Value, clipped
from geomfeat.report.plotly.depth_places import DEPTH, depth_axis, places
from geomfeat.report.plotly.similarity import SCALE

if TYPE_CHECKING:
    from geomfeat.comparison.models.result import ModelComparison

MOST_PAIRS = 12
# What captions of networks say of layers and training, said of areas and layers whose rows correspond by condition.
TITLES = {
    "classes": "Capacity and the geometry of the conditions", "alignment": "Alignments between conditions",
    "dimension": "Dimension of areas and layers", "labels": "What areas and layers say about the conditions",
}  # fmt: skip
OF_AREAS = {
    "classes": "Capacity is high where conditions are easy to separate, because their dimension or radius is low. The "
    "grey line and dashes are the number of conditions over the rank, the value for points without structure: at this "
    "floor (crosses) conditions are not separable.",
    "alignment": "Mean absolute cosines between the centres and axes of conditions; grey is the value for random "
    "directions in as many units.",
    "dimension": "How many directions the patterns use, by measures that weigh large and small directions differently. "
    "It depends on the number of rows, which is the same for all, and in areas on the noise of the trials.",
    "labels": "As conditions are encoded better, probe accuracy and label alignment rise, and scatter within "
    "conditions (NC1) falls.",
}  # fmt: skip


def matches_figure(found: ModelComparison) -> Figure:
    """For each pair of models, the depth in the second of the best match of each layer of the first."""
    counts = found.layers.loc[found.layers["depth"].notna(), "model"].tolist()
    several = [name for name in found.names if counts.count(name) > 1]
    pairs = [(a, b) for a in several for b in several if a != b]
    panels = [_match_panel(found.matches, a, b) for a, b in pairs[:MOST_PAIRS]]
    caption = (
        "For each layer of one model, the depth of the most similar layer of the other (0 % = first, 100 % = last); "
        "the lighter the mark, the more similar. On the dotted diagonal, layers match at the same relative depth; a "
        "flat row of marks means that many layers match the same one."
    )
    limited = f"Of {len(pairs)} pairs, {MOST_PAIRS} are drawn; all are in the table." if len(pairs) > MOST_PAIRS else ""
    if len(several) < len(found.names):
        limited += " Models with one layer, and areas of recordings, which have no depth, are in the table only."
    if not panels:  # a single network beside areas
        caption = "For each area or layer, the most similar one of every other model."
    bar = ("similarity 0", "1", look.CIVIDIS) if panels else None
    return Figure("", caption, panels, [_matches_table(found.matches)], bar=bar, note=limited.strip())


def _match_panel(matches: Any, a: str, b: str) -> Panel:
    mine = matches[(matches["model"] == a) & (matches["other"] == b) & (matches["match"] != "")]
    text = [
        f"{plain(layer)}<br>best match: {plain(match)}<br>similarity {value:.3f}"
        for layer, match, value in zip(mine["layer"], mine["match"], mine["similarity"], strict=True)
    ]
    marks = {
        "type": "scatter", "mode": "markers", "x": 100 * mine["depth"], "y": 100 * mine["match_depth"], "text": text,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": list(mine["similarity"]), "cmin": 0, "cmax": 1, "colorscale": SCALE, "size": 10,
            "line": {"color": look.QUIET, "width": 1},
        },
    }  # fmt: skip
    diagonal = {"type": "line", "x0": 0, "y0": 0, "x1": 100, "y1": 100, "layer": "below",
                "line": {"color": look.FLOOR, "width": 1, "dash": "dot"}}  # fmt: skip
    frame = layout(
        axis(f"depth in {plain(clipped(a, 24))}, %", **DEPTH),
        axis(f"depth in {plain(clipped(b, 24))}, %", **DEPTH),
        shapes=[diagonal],
    )
    return Panel(f"{a} in {b}", [marks], frame)


def _matches_table(matches: Any) -> Table:
    columns = ("layer", "of model", "best match", "in model", "similarity", "depth", "depth of the match")
    rows = [
        (
            str(r["layer"]),
            [
                text_cell(r["model"]), text_cell(r["match"] or "none"), text_cell(r["other"]),
                number_cell(float(r["similarity"]), float(r["stderr"])),
                number_cell(float(r["depth"])), number_cell(float(r["match_depth"])),
            ],
        )
        for r in matches.to_dict("records")
    ]  # fmt: skip
    return grid(columns, rows, "Best matches, ± one standard error over samples")


def profile_figures(found: ModelComparison) -> list[Figure]:
    """One figure of small panels for each group of quantities, over relative depth."""
    table = found.profiles
    present = set(zip(table["measure"], table["quantity"], strict=True))
    figures = []
    for group in GROUPS:
        chosen = [entry for entry in entries(present, change=False) if entry.group == group.key]
        panels = [panel for panel in (_profile(found, entry) for entry in chosen) if panel.data]
        if chosen:
            tables = [_profile_table(found, entry) for entry in chosen]
            lost = sum(
                not r["ok"]
                for e in chosen
                for name in found.names
                for r in _of(table, name, e.measure, e.quantity).to_dict("records")
            )
            note = f"{lost} values failed and are missing from the lines: see the failures below." if lost else ""
            areas = bool(found.layers["depth"].isna().any())
            title, text = (
                (TITLES.get(group.key, group.title), OF_AREAS.get(group.key, group.caption)) if areas
                else (group.title, group.caption)
            )  # fmt: skip
            caption = f"{text} {OF_BARS}"
            if len(panels) == 1:  # which has no title of its own
                caption = f"{panels[0].title}. {caption}"
            if areas:
                caption += " Areas of recordings have no depth, and stand beside the layers."
            figures.append(Figure(title, caption, panels, tables, note=note))
    return figures


def _profile(found: ModelComparison, entry: Entry) -> Panel:
    data, at = [], places(found)
    for i, name in enumerate(found.names):
        mine = _of(found.profiles, name, entry.measure, entry.quantity)
        if not mine["ok"].any():
            continue
        low = [ok and at_floor(note) for ok, note in zip(mine["ok"], mine["note"], strict=True)]
        good = [ok and not below for ok, below in zip(mine["ok"], low, strict=True)]
        values = [v if ok else None for v, ok in zip(mine["value"], good, strict=True)]
        where = [at[name, layer] for layer in mine["layer"]]
        data.append(marks_of(found, name, mine, values, where))
        if any(low):
            data.append(_low(i, name, mine[low], [x for x, below in zip(where, low, strict=True) if below]))
        floor = floor_of(entry)
        if floor is not None:
            floors = _of(found.profiles, name, *floor)
            data.append(_floor(i, floors, [at[name, layer] for layer in floors["layer"]]))
    known = [y for trace in data for y in trace["y"] if y is not None]
    logarithmic = entry.log and all(y > 0 for y in known)
    rule = "nonnegative" if all(y >= 0 for y in known) else "normal"
    y = log_axis(plain(entry.axis), known) if logarithmic else axis(plain(entry.axis), rangemode=rule)
    return Panel(entry.title, data, layout(depth_axis(found), y))


def _low(index: int, name: str, rows: Any, where: list[float]) -> dict[str, Any]:
    """Marks of numbers at the floor, outside of the lines."""
    return {
        "type": "scatter", "mode": "markers", "x": where, "y": list(rows["value"]),
        "customdata": [[plain(name), plain(layer)] for layer in rows["layer"]],
        "hovertemplate": f"%{{customdata[0]}}<br>%{{customdata[1]}}: %{{y:.4g}}, {AT_FLOOR}<extra></extra>",
        "marker": {"color": look.colour(index), "size": 6, "symbol": "x-thin-open", "line": {"width": 1.5}},
        "opacity": 0.6, "meta": {"model": index},
    }  # fmt: skip


def _floor(index: int, rows: Any, where: list[float]) -> dict[str, Any]:
    """What random directions, or points without structure, would give."""
    areas = bool(rows["depth"].isna().all())
    return {
        "type": "scatter", "mode": "markers" if areas else "lines", "x": where, "y": list(rows["value"]),
        "line": {"color": look.FLOOR, "width": 2, "dash": "1px,3px"}, "meta": {"model": index},
        "marker": {"color": look.FLOOR, "symbol": "line-ew-open", "size": 14, "line": {"width": 2}},
        "hovertemplate": "floor: %{y:.3f}<extra></extra>",
    }  # fmt: skip


def _of(profiles: Any, model: str, measure: str, quantity: str) -> Any:
    chosen = (profiles["measure"] == measure) & (profiles["quantity"] == quantity)
    return profiles[chosen & (profiles["model"] == model)]


def facts_of_areas(found: ModelComparison, name: str) -> dict[str, str]:
    """Area of a recording -> " (40 units, 192 trials in 8 runs, SNR 0.63)", to stand beside its numbers."""
    facts = found.settings.get("recordings", {}).get(name)
    return {area: f" ({recorded_words(facts, area)})" for area in facts["units_by_area"]} if facts else {}


def marks_of(found: ModelComparison, name: str, rows: Any, values: list[Any], where: list[float]) -> dict[str, Any]:
    """A line through the layers of a model, or a mark for each area, with errors; None where a value is missing."""
    index, facts = found.names.index(name), facts_of_areas(found, name)
    known = [e if math.isfinite(e) else 0.0 for e in rows["stderr"]]
    return {
        "type": "scatter", "mode": "markers" if rows["depth"].isna().all() else "lines+markers",
        "x": where, "y": values,
        "customdata": [[plain(name), plain(f"{layer}{facts.get(layer, '')}")] for layer in rows["layer"]],
        "hovertemplate": "%{customdata[0]}<br>%{customdata[1]}: %{y:.4g}<extra></extra>",
        "line": {"color": look.colour(index), "width": 2},
        "marker": {"color": look.colour(index), "symbol": look.symbol(index), "size": 6},
        "error_y": {**error_bars(known), "color": look.colour(index)}, "connectgaps": False,
        "meta": {"model": index},
    }  # fmt: skip


def _profile_table(found: ModelComparison, entry: Entry) -> Table:
    rows, key = [], floor_of(entry)
    for name in found.names:
        facts = facts_of_areas(found, name)
        floors = {} if key is None else dict(_of(found.profiles, name, *key)[["layer", "value"]].to_numpy().tolist())
        for r in _of(found.profiles, name, entry.measure, entry.quantity).to_dict("records"):
            cell = value_cell(Value(float(r["value"]), float(r["stderr"]), bool(r["ok"]), str(r["note"])))
            floor = [] if key is None else [number_cell(floors.get(r["layer"]))]
            rows.append((f"{name}: {r['layer']}{facts.get(r['layer'], '')}",
                         [number_cell(float(r["depth"])), cell, *floor]))  # fmt: skip
    return grid(
        ("layer", "depth", entry.title, *([] if key is None else ["floor"])), rows, f"{entry.title} ({entry.axis})"
    )
