"""Models over relative depth: matching layers, profiles of measures, and similarity of layers to brain data."""

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
    note,
    number_cell,
    plain,
    text_cell,
    value_cell,
)
from geomfeat.report.content.quantity_labels import GROUPS, OF_BARS, Entry, entries, floor_of
from geomfeat.report.content.study_view import Value, clipped
from geomfeat.report.plotly.similarity import SCALE

if TYPE_CHECKING:
    from geomfeat.comparison.models.result import ModelComparison

MOST_PAIRS = 12
DEPTH = {"range": [-6, 106], "tickvals": [0, 25, 50, 75, 100]}


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
        panels = [_profile(found, entry) for entry in chosen]
        if panels:
            tables = [_profile_table(found, entry) for entry in chosen]
            lost = sum(
                not r["ok"]
                for e in chosen
                for name in found.names
                for r in _of(table, name, e.measure, e.quantity).to_dict("records")
            )
            note = f"{lost} values failed and are missing from the lines: see the failures below." if lost else ""
            caption = f"{group.caption} {OF_BARS}"
            if found.layers.loc[found.layers["kind"] == "recording", "depth"].isna().any():
                caption += " Dashed lines are areas of recordings, which have no depth."
            figures.append(Figure(group.title, caption, panels, tables, note=note))
    return figures


def _profile(found: ModelComparison, entry: Entry) -> Panel:
    data = []
    for i, name in enumerate(found.names):
        mine = _of(found.profiles, name, entry.measure, entry.quantity)
        if not mine["ok"].any():
            continue
        low = [ok and at_floor(note) for ok, note in zip(mine["ok"], mine["note"], strict=True)]
        good = [ok and not below for ok, below in zip(mine["ok"], low, strict=True)]
        values = [v if ok else None for v, ok in zip(mine["value"], good, strict=True)]
        if mine["depth"].isna().all():
            known_values = zip(mine["layer"], values, strict=True)
            data += [_across(i, name, str(layer), y) for layer, y in known_values if y is not None]
            continue
        data.append(_line(i, name, mine, values, list(mine["stderr"])))
        if any(low):
            data.append(_low(i, name, mine[low]))
        floor = floor_of(entry)
        if floor is not None:
            data.append(_floor(i, _of(found.profiles, name, *floor)))
    known = [y for trace in data for y in trace["y"] if y is not None]
    logarithmic = entry.log and all(y > 0 for y in known)
    rule = "nonnegative" if all(y >= 0 for y in known) else "normal"
    y = axis(plain(entry.axis), type="log") if logarithmic else axis(plain(entry.axis), rangemode=rule)
    return Panel(entry.title, data, layout(axis("relative depth, %", **DEPTH), y))


def _across(index: int, name: str, area: str, value: float) -> dict[str, Any]:
    """A value without a depth, as a line across the plot."""
    words = plain(name) if area == name else f"{plain(name)}<br>{plain(area)}"
    return {
        "type": "scatter", "mode": "lines", "x": [-6, 106], "y": [value, value], "meta": {"model": index},
        "line": {"color": look.colour(index), "width": 1.5, "dash": "dash"},
        "hovertemplate": f"{words}: %{{y:.4g}}<extra></extra>",
    }  # fmt: skip


def _low(index: int, name: str, rows: Any) -> dict[str, Any]:
    """Marks of numbers at the floor, outside of the lines."""
    return {
        "type": "scatter", "mode": "markers", "x": 100 * rows["depth"], "y": list(rows["value"]),
        "customdata": [[plain(name), plain(layer)] for layer in rows["layer"]],
        "hovertemplate": f"%{{customdata[0]}}<br>%{{customdata[1]}}: %{{y:.4g}}, {AT_FLOOR}<extra></extra>",
        "marker": {"color": look.colour(index), "size": 6, "symbol": "x-thin-open", "line": {"width": 1.5}},
        "opacity": 0.6, "meta": {"model": index},
    }  # fmt: skip


def _floor(index: int, rows: Any) -> dict[str, Any]:
    """What random directions, or points without structure, would give."""
    return {
        "type": "scatter", "mode": "lines", "x": 100 * rows["depth"], "y": list(rows["value"]),
        "line": {"color": look.FLOOR, "width": 2, "dash": "1px,3px"}, "meta": {"model": index},
        "hovertemplate": "floor: %{y:.3f}<extra></extra>",
    }  # fmt: skip


def _of(profiles: Any, model: str, measure: str, quantity: str) -> Any:
    chosen = (profiles["measure"] == measure) & (profiles["quantity"] == quantity)
    return profiles[chosen & (profiles["model"] == model)]


def _line(index: int, name: str, rows: Any, values: list[Any], errors: list[float]) -> dict[str, Any]:
    known = [e if math.isfinite(e) else 0.0 for e in errors]
    return {
        "type": "scatter", "mode": "lines+markers", "x": 100 * rows["depth"], "y": values,
        "customdata": [[plain(name), plain(layer)] for layer in rows["layer"]],
        "hovertemplate": "%{customdata[0]}<br>%{customdata[1]}: %{y:.4g}<extra></extra>",
        "line": {"color": look.colour(index), "width": 2},
        "marker": {"color": look.colour(index), "symbol": look.symbol(index), "size": 6},
        "error_y": {**error_bars(known), "color": look.colour(index)}, "connectgaps": False,
        "meta": {"model": index},
    }  # fmt: skip


def _profile_table(found: ModelComparison, entry: Entry) -> Table:
    rows, key = [], floor_of(entry)
    for name in found.names:
        floors = {} if key is None else dict(_of(found.profiles, name, *key)[["layer", "value"]].to_numpy().tolist())
        for r in _of(found.profiles, name, entry.measure, entry.quantity).to_dict("records"):
            cell = value_cell(Value(float(r["value"]), float(r["stderr"]), bool(r["ok"]), str(r["note"])))
            floor = [] if key is None else [number_cell(floors.get(r["layer"]))]
            rows.append((f"{name}: {r['layer']}", [number_cell(float(r["depth"])), cell, *floor]))
    return grid(
        ("layer", "depth", entry.title, *([] if key is None else ["floor"])), rows, f"{entry.title} ({entry.axis})"
    )


def brain_figures(found: ModelComparison) -> list[Figure]:
    """For each brain, similarity over the depth of every model, and the best layer of each, with the noise ceiling."""
    return [_brain_figure(found, brain, rows) for brain, rows in found.ranking.groupby("brain", sort=False)]


def _brain_figure(found: ModelComparison, brain: Any, rows: Any) -> Figure:
    lower, upper = rows["ceiling_lower"].iloc[0], rows["ceiling_upper"].iloc[0]
    how = rows["comparator"].iloc[0]
    caption = (
        f"Similarity of each layer's dissimilarity matrix to that of {brain} ({how}; correlation distance between "
        "patterns). Bars are ± one standard error over stimuli and, if there are several, subjects."
    )
    if math.isfinite(lower):
        caption += (
            f" The grey band is the noise ceiling, {lower:.2f} to {upper:.2f}: the similarity that the true model "
            "would reach, given how much the subjects differ."
        )
    else:
        caption += " With one subject there is no noise ceiling."
    panels = [_brain_profile(found, rows, how), _brain_best(found, rows, how)]
    return Figure(str(brain), caption, panels, [_brain_table(rows)])


def _band(rows: Any, along: str) -> list[dict[str, Any]]:
    """The noise ceiling across the whole plot, `along` which axis it is constant."""
    lower, upper = rows["ceiling_lower"].iloc[0], rows["ceiling_upper"].iloc[0]
    if not math.isfinite(lower):
        return []
    other = "y" if along == "x" else "x"
    return [{
        "type": "rect", f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{other}0": lower, f"{other}1": upper,
        "fillcolor": look.BAND, "opacity": 0.6, "line": {"width": 0}, "layer": "below",
    }]  # fmt: skip


def _brain_profile(found: ModelComparison, rows: Any, how: str) -> Panel:
    data, shapes, names = [], _band(rows, "x"), []
    for i, name in enumerate(found.names):
        mine = rows[rows["model"] == name].sort_values("depth", kind="stable")
        good = mine[mine["ok"]]
        if len(good) and mine["depth"].isna().all():
            for area, value in zip(good["layer"], good["similarity"], strict=True):
                data.append(_across(i, name, str(area), float(value)))
                names.append(note(0, value, plain(clipped(f"{name} {area}", 24)), xanchor="left", yshift=8))
        elif len(good) == 1 and len(mine) == 1:
            value = float(good["similarity"].iloc[0])
            data.append({
                "type": "scatter", "mode": "lines", "x": [-6, 106], "y": [value, value], "meta": {"model": i},
                "line": {"color": look.colour(i), "width": 1.5, "dash": "dash"},
                "hovertemplate": f"{plain(name)}: %{{y:.3f}}<extra></extra>",
            })  # fmt: skip
            names.append(note(0, value, plain(clipped(name, 24)), xanchor="left", yshift=8))
        elif len(good):
            values = [v if ok else None for v, ok in zip(mine["similarity"], mine["ok"], strict=True)]
            data.append(_line(i, name, mine, values, list(mine["stderr"])))
    frame = layout(axis("relative depth, %", **DEPTH), axis(plain(how)), shapes=shapes, annotations=names)
    return Panel("Over depth", data, frame)


def _brain_best(found: ModelComparison, rows: Any, how: str) -> Panel:
    first = rows[rows["ok"]].groupby("model", sort=False).head(1)  # rows are ranked
    data, ticks = [], []
    for place, r in enumerate(first.to_dict("records")):
        i = found.names.index(r["model"])
        label = r["model"] if r["layer"] == r["model"] else f"{r['model']}: {r['layer']}"
        ticks.append(plain(clipped(label, 26)))
        data.append({
            "type": "scatter", "mode": "markers", "x": [r["similarity"]], "y": [place], "meta": {"model": i},
            "marker": {"color": look.colour(i), "symbol": look.symbol(i), "size": 9},
            "error_x": {**error_bars([r["stderr"]]), "color": look.colour(i)},
            "hovertemplate": f"{plain(label)}: %{{x:.3f}}<extra></extra>",
        })  # fmt: skip
    where = {"tickvals": list(range(len(ticks))), "ticktext": ticks, "showgrid": False}
    frame = layout(
        axis(plain(how), rangemode="tozero"), axis("", range=[len(ticks) - 0.5, -0.5], **where), shapes=_band(rows, "y")
    )
    return Panel("The best layer of each model", data, frame)


def _brain_table(rows: Any) -> Table:
    columns = ("rank", "model", "layer", "depth", "similarity", "95 % interval", "p above 0", "p below the ceiling")
    lines = []
    for r in rows.to_dict("records"):
        if not r["ok"]:
            lines.append(("–", [text_cell(r["model"]), text_cell(r["layer"]), number_cell(r["depth"]),
                                text_cell("failed", "failed", r["note"]), *[text_cell("")] * 3]))  # fmt: skip
            continue
        lines.append((
            str(r["rank"]),
            [
                text_cell(r["model"]), text_cell(r["layer"]), number_cell(r["depth"]),
                number_cell(r["similarity"], r["stderr"]),
                text_cell(f"{r['low']:.3f} to {r['high']:.3f}".replace("-", "−")),
                number_cell(r["p_zero"]), number_cell(r["p_ceiling"]),
            ],
        ))  # fmt: skip
    return grid(columns, lines, "All layers, ranked; p values are for single comparisons")
