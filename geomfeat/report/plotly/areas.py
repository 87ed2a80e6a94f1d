"""Measures of the areas of recordings: one small panel for each quantity, a mark for each area; matrices; spectra."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from geomfeat.charts import theme as look
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR
from geomfeat.report.content.components import (
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
    value_cell,
)
from geomfeat.report.content.folded_panels import folded
from geomfeat.report.content.map_data import shown_matrix
from geomfeat.report.content.number_format import number
from geomfeat.report.content.quantity_labels import GROUPS, Entry, entries, floor_of
from geomfeat.report.content.recorded_facts import recorded_words
from geomfeat.report.content.spectrum_data import SMALLEST
from geomfeat.report.content.study_view import RECORDED, View, clipped
from geomfeat.report.content.symbol_paths import symbol_path
from geomfeat.report.plotly.maps import matrix_panel, matrix_table
from geomfeat.report.plotly.spectra import log_ranks

# What the captions of networks say of layers and training, said of areas.
CAPTIONS = {
    "classes": "How easily a linear read-out separates the conditions from the units of an area: capacity is high "
    "where their dimension or radius is low. It depends on the number of trials of a condition and on averaging, so "
    "compare areas and recordings at equal ones only. Its floor is the number of conditions over the rank, the value "
    "for points without structure: there, conditions are not separable.",
    "alignment": "Mean absolute cosines between the centres and axes of conditions. Their floor is the value for "
    "random directions in as many units: only values above it, and above the controls, show structure.",
    "dimension": "How many directions the responses use, by measures that weigh large and small directions "
    "differently. They are of trials, so they hold trial-to-trial variability as well as differences between "
    "conditions.",
    "labels": "What the units of an area say about the conditions: as conditions are encoded better, probe accuracy "
    "and label alignment rise, and scatter within conditions (NC1) falls.",
}  # fmt: skip
TITLES = {
    "classes": "Capacity and the geometry of the conditions", "alignment": "Alignments between conditions",
    "dimension": "Dimension of the responses", "labels": "What the responses say about the conditions",
    "other": "Other measures",
}  # fmt: skip
WORDS = {
    "classes": "conditions", "class": "condition", "Classes": "Conditions", "Class": "Condition", "features": "units",
    "feature": "unit", "layer": "area", "layers": "areas", "samples": "trials",
}  # fmt: skip
# What stands beside the number of a measure in its panel and table.
CONTROLS = {
    "capacity": {
        "capacity_shuffled": "shuffled conditions", "capacity_noise": "noise alone",
        "capacity_matched": "at equal units",
    }
}  # fmt: skip
SYMBOLS = {"capacity_shuffled": "triangle-down-open", "capacity_noise": "circle-open", "capacity_matched": "diamond"}
FLOOR_MARK, LOW_MARK = "line-ew-open", "x-thin-open"
MARKS = {
    FLOOR_MARK: "floor: points or directions without structure", LOW_MARK: "a value at its floor",
    SYMBOLS["capacity_shuffled"]: "shuffled conditions", SYMBOLS["capacity_noise"]: "the noise of trials alone",
    SYMBOLS["capacity_matched"]: "areas at as many units as the smallest has",
}  # fmt: skip
READING = (
    "Each mark is an area; bars are ± one standard error. Errors over runs, sessions or subjects are of the data, "
    "errors over draws of the random directions alone: the notes below say which."
)


def area_figures(several: Sequence[View]) -> list[Figure]:
    """One figure of small panels for each group of quantities."""
    present = {
        (measure, quantity)
        for view in several
        for (at, measure, quantity), found in view.numbers.items()
        if at == RECORDED and any(area in found for area in view.layers)
    }
    figures = []
    for group in GROUPS:
        every = [entry for entry in entries(present, change=False) if entry.group == group.key]
        chosen = [_in_words(entry) for entry in every if not _stands_beside(entry, present)]
        if chosen:
            caption = CAPTIONS.get(group.key, "")
            panels, tables = [_panel(several, e) for e in chosen], [_table(several, e) for e in chosen]
            parts = folded(panels, chosen)
            if len(parts.shown) == 1:  # which has no title of its own
                caption = f"{parts.shown[0].title}. {caption}".strip()
            figures.append(Figure(
                TITLES.get(group.key, group.title), caption, parts.shown, tables, key=group.key, folded=parts.closed,
                fold_title=parts.title,
            ))  # fmt: skip
    return figures


def area_keys(figures: Sequence[Figure]) -> list[Key]:
    """What the grey marks are that the panels of these figures have."""
    drawn = {trace["marker"]["symbol"] for figure in figures for panel in figure.every for trace in panel.data}
    return [
        Key(words, look.FLOOR, "", symbol_path(symbol), open=symbol.endswith("-open"))
        for symbol, words in MARKS.items()
        if symbol in drawn
    ]


def _stands_beside(entry: Entry, present: set[tuple[str, str]]) -> bool:
    """Whether a number is a control that is drawn in the panel of the number that it is of."""
    return any(entry.measure in of and (name, entry.quantity) in present for name, of in CONTROLS.items())


def _in_words(entry: Entry) -> Entry:
    """An entry of the catalogue with conditions and units in place of classes and features.

    >>> _in_words(Entry("capacity", "capacity", "Class dimension D", "classes per feature", "classes")).axis
    'conditions per unit'
    """

    def said(text: str) -> str:
        for word, ours in WORDS.items():
            text = re.sub(rf"\b{word}\b", ours, text)
        return text

    return replace(entry, title=said(entry.title), axis=said(entry.axis))


def _panel(several: Sequence[View], entry: Entry) -> Panel:
    areas = list(dict.fromkeys(area for view in several for area in view.layers))
    data: list[dict[str, Any]] = []
    for view in several:
        # Marks of several recordings stand beside each other.
        shift = 0.12 * (view.index - (len(several) - 1) / 2)
        found = view.at(RECORDED, entry.measure, entry.quantity)
        for low in (False, True):
            known = [(areas.index(a) + shift, a, found[a]) for a in view.layers if a in found and _drawn(found[a], low)]
            if known:
                data.append(_marks(view, known, low))
        floor = floor_of(entry)
        floors = {} if floor is None else view.at(RECORDED, *floor)
        line = [(areas.index(area), floors[area].drawn) for area in view.layers if area in floors]
        data += _controls(view, entry, areas, shift)
        if line:
            data.append({
                "type": "scatter", "mode": "markers", "x": [x for x, _ in line], "y": [y for _, y in line],
                "marker": {"color": look.FLOOR, "symbol": FLOOR_MARK, "size": 22, "line": {"width": 2}},
                "hovertemplate": "floor: %{y:.3f}<extra></extra>", "meta": {"model": view.index},
            })  # fmt: skip
    values = [y for trace in data for y in trace["y"] if y is not None]
    ticks = {"tickvals": list(range(len(areas))), "ticktext": [_tick(several, area) for area in areas]}
    x = axis("area", range=[-0.6, len(areas) - 0.4], **ticks)
    y = (
        log_axis(plain(entry.axis), values) if entry.log and values and min(values) > 0
        else axis(plain(entry.axis), rangemode="tozero" if values and min(values) >= 0 else "normal")
    )  # fmt: skip
    return Panel(entry.title, data, layout(x, y))


def _tick(several: Sequence[View], area: str) -> str:
    """An area's name, and of a single recording its units and signal-to-noise ratio below it."""
    facts = _recorded(several[0])
    if len(several) > 1 or area not in facts.get("units_by_area", {}):
        return plain(clipped(area))
    ratio = facts.get("signal_to_noise", {}).get(area)
    noise = "" if ratio is None else f"<br>SNR {number(ratio)}".replace("-", "−")
    return f"{plain(clipped(area))}<br>{facts['units_by_area'][area]} units{noise}"


def _recorded(view: View) -> dict[str, Any]:
    return view.study.settings.get("recording") or {}


def _words(view: View, area: str) -> str:
    """ " (40 units, 192 trials in 8 runs, SNR 0.63)", or "" where it is not known."""
    facts = _recorded(view)
    return f" ({recorded_words(facts, area)})" if area in facts.get("units_by_area", {}) else ""


def _controls(view: View, entry: Entry, areas: list[str], shift: float) -> list[dict[str, Any]]:
    """Grey marks for what shuffled conditions and noise alone give."""
    traces: list[dict[str, Any]] = []
    for measure, words in CONTROLS.get(entry.measure, {}).items():
        found = view.at(RECORDED, measure, entry.quantity)
        known = [(areas.index(a) + shift, a, found[a].drawn) for a in view.layers if a in found]
        known = [one for one in known if one[2] is not None]
        if known:
            traces.append({
                "type": "scatter", "mode": "markers", "x": [x for x, _, _ in known], "y": [y for _, _, y in known],
                "customdata": [[plain(view.name), plain(area)] for _, area, _ in known],
                "hovertemplate": f"%{{customdata[0]}}<br>%{{customdata[1]}}, {words}: %{{y:.4g}}<extra></extra>",
                "marker": {"color": look.FLOOR, "symbol": SYMBOLS[measure], "size": 8}, "meta": {"model": view.index},
            })  # fmt: skip
    return traces


def _drawn(value: Any, low: bool) -> bool:
    return value.low if low else value.drawn is not None


def _marks(view: View, known: list[tuple[float, str, Any]], low: bool) -> dict[str, Any]:
    words = f", {AT_FLOOR}" if low else ""
    trace: dict[str, Any] = {
        "type": "scatter", "mode": "markers", "x": [x for x, _, _ in known], "y": [v.value for _, _, v in known],
        "customdata": [[plain(view.name), plain(area), plain(_words(view, area))] for _, area, _ in known],
        "hovertemplate": "%{customdata[0]}<br>%{customdata[1]}: %{y:.4g}" + words + "%{customdata[2]}<extra></extra>",
        "marker": {
            "color": view.colour, "size": 8, "symbol": LOW_MARK if low else look.symbol(view.index),
            "line": {"width": 1.5 if low else 0},
        },
        "meta": {"model": view.index},
    }  # fmt: skip
    if not low and any(v.stderr for _, _, v in known):
        trace["error_y"] = {**error_bars([v.stderr for _, _, v in known]), "color": view.colour}
    return trace


def _table(several: Sequence[View], entry: Entry) -> Table:
    areas = list(dict.fromkeys(area for view in several for area in view.layers))
    floor = floor_of(entry)
    controls = CONTROLS.get(entry.measure, {})
    beside = [(view, m, words) for view in several for m, words in controls.items()
              if view.at(RECORDED, m, entry.quantity)]  # fmt: skip
    heads = [view.name for view in several] + [f"{view.name}, floor" for view in several if floor is not None]
    heads += [f"{view.name}, {words}" for view, _, words in beside]
    heads += [f"{view.name}, recorded" for view in several]
    rows = []
    for area in areas:
        cells = [value_cell(view.at(RECORDED, entry.measure, entry.quantity).get(area)) for view in several]
        cells += [value_cell(view.at(RECORDED, *floor).get(area)) for view in several if floor is not None]
        cells += [value_cell(view.at(RECORDED, m, entry.quantity).get(area)) for view, m, _ in beside]
        cells += [text_cell(_words(view, area).strip(" ()")) for view in several]
        rows.append((area, cells))
    return grid(("area", *heads), rows, f"{entry.title} ({entry.axis})")


def area_matrices(several: Sequence[View]) -> list[Figure]:
    """Unbiased linear CKA between the areas of each recording that has two or more."""
    panels, tables = [], []
    for view in several:
        found = shown_matrix(view, RECORDED, RECORDED)
        if found is not None and len(found[1]) > 1:
            panels.append(matrix_panel(view.index, view.name, *found))
            tables.append(matrix_table(view.name, *found))
    if not panels:
        return []
    caption = (
        "Each square compares two areas by unbiased linear CKA over the same trials (1 = same geometry up to rotation "
        "and scale, 0 = unrelated). Areas that were recorded together share trial-to-trial noise, which counts as "
        "similarity; averaging trials lowers it."
    )
    return [Figure("", caption, panels, tables, bar=("CKA 0", "1", look.CIVIDIS), shape="triples")]


def area_spectra(several: Sequence[View]) -> list[Figure]:
    """Share of the variance along each principal direction, for every area."""
    panels, tables = [], []
    for view in several:
        data, columns = [], []
        for i, (area, values) in enumerate(view.arrays("spectrum", RECORDED)):
            shares = np.asarray(values, dtype=float) / max(float(np.sum(values)), SMALLEST)
            ranks = log_ranks(int((shares > SMALLEST).sum()))
            columns.append((area, dict(zip(ranks, shares[np.array(ranks, dtype=int) - 1].tolist(), strict=True))))
            data.append({
                "type": "scatter", "mode": "lines", "x": ranks, "y": list(columns[-1][1].values()), "name": plain(area),
                "line": {"color": look.colour(i), "width": 2}, "customdata": [plain(area)] * len(ranks),
                "hovertemplate": "%{customdata}<br>direction %{x}: %{y:.2e}<extra></extra>",
                "meta": {"model": view.index},
            })  # fmt: skip
        if data:
            frame = layout(
                log_axis("rank of the principal direction", (x for trace in data for x in trace["x"])),
                log_axis("share of the variance", (y for trace in data for y in trace["y"])),
            )
            keys = [Key(area, look.colour(i)) for i, (area, _) in enumerate(columns)] if len(columns) > 1 else []
            panels.append(Panel(view.name, data, frame, model=view.index, keys=keys))
            ranks = sorted({rank for _, known in columns for rank in known})
            rows = [(str(r), [number_cell(known.get(r)) for _, known in columns]) for r in ranks]
            tables.append(grid(("rank", *(area for area, _ in columns)), rows, f"{view.name}: share of the variance"))
    if not panels:
        return []
    caption = (
        "Each line is an area: the share of the variance over trials along each principal direction. The steeper it "
        "falls, the fewer directions the responses use; its tail is mostly noise."
    )
    return [Figure("", caption, panels, tables)]
