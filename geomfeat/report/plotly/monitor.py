"""Curves of a monitored training over its steps, by layer, with its events as numbered lines."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from geomfeat.charts import theme as look
from geomfeat.monitoring.result import Monitored
from geomfeat.report.content.components import (
    Figure,
    Key,
    Panel,
    Table,
    axis,
    grid,
    layout,
    log_axis,
    number_cell,
    plain,
    text_cell,
)
from geomfeat.report.content.symbol_paths import symbol_path

HEIGHT = 235
MOST_NAMED = 7  # layers with a colour and a name of their own; of more, colours follow the depth
MOST_ROWS = 60  # of a table in the page
NETWORK = "network"

Names = Sequence[tuple[str, str]]
PLACE: Names = (
    ("richness", "Demand R, decades"), ("movement", "Movement M, decades"), ("excess", "Excess E = M − R, decades")
)  # fmt: skip
KERNEL: Names = (
    ("kernel_demand", "Kernel demand κ, decades"), ("kernel_change", "Change of the kernel, share of its size"),
    ("kernel_size", "Size of the kernel, against the start"), ("kernel_turn", "Turn of the kernel, radians"),
)  # fmt: skip
LOSSES = (
    ("loss", "training, as given"), ("worst_loss", "largest since the row before"), ("probe_loss", "probes"),
    ("held_out_loss", "held out"),
)  # fmt: skip
UNITS: Names = (("spread", "Spread between probes"), ("dead", "Share of dead features"))
ON_LOG = ("kernel_change", "kernel_size")


def monitor_figures(record: Monitored) -> list[Figure]:
    """The figures of the page; those that have nothing to draw are left out."""
    layers, own = record.layers, record.network
    known = [c for c in record.table.columns if c not in _NO_MEASURE]
    extra = [(name, name.replace("_", " ")) for name in known]
    found = [
        _by_layer(record, PLACE, "Features: demand, movement, excess", CAPTION_PLACE, "place"),
        _figure(own, KERNEL, "The tangent kernel", CAPTION_KERNEL, record, "kernel"),
        _losses(record),
        _by_layer(record, UNITS, "Features that say nothing", CAPTION_UNITS, "units"),
        _by_layer(record, extra, "Measures by layer", "The registered measures that were asked for.", "measures"),
    ]
    return [figure for figure in found if figure is not None and figure.panels] if len(own) or layers else []


CAPTION_PLACE = (
    "How far features would have had to move, were the network linear (R), how far they did (M), and the difference "
    "(E), as powers of ten of their size: 0 is once their size. Left of the first point nothing had moved."
)
CAPTION_KERNEL = (
    "κ: by what factor (a power of ten) the learned change exceeds the largest one for which the tangent kernel stays "
    "put. The network is in its linear regime while its kernel has changed by less than a fifth (dotted line)."
)
CAPTION_UNITS = (
    "Spread: 0 where a layer has the same features for every probe. Dead: the share of its features on which no output "
    "depends; compare it with the start."
)
_NO_MEASURE = {
    "step", "session", "layer", "regime", "seconds", "trained", "note", "rate", "weight_change",
    *(name for names in (PLACE, KERNEL, LOSSES, UNITS) for name, _ in names),
}  # fmt: skip


def _by_layer(record: Monitored, names: Names, title: str, caption: str, key: str) -> Figure | None:
    table, layers = record.table, record.layers
    panels = []
    for name, label in names:
        curves = [(layer, pd.DataFrame(table[table["layer"] == layer])) for layer in layers]
        if name in dict(PLACE):
            curves.append((NETWORK, record.network))
        traces = [_trace(who, of, name, *_style(who, layers)) for who, of in curves if _any_finite(of, name)]
        if traces:
            panels.append(_panel(label, traces, record, named=len(layers) <= MOST_NAMED))
    bar = None
    if len(layers) > MOST_NAMED:
        bar = ("first layer", f"last layer; {NETWORK} in black", look.DEPTH)
    wanted = [name for name, _ in names if _any_finite(table, name)]
    tables = [_table(table, wanted, layered=True)] if wanted else []
    return Figure(title, caption, panels, tables, static=key, bar=bar, key=key, bar_of_lines=True) if panels else None


def _figure(own: pd.DataFrame, names: Names, title: str, caption: str, record: Monitored, key: str) -> Figure | None:
    panels, wanted = [], [name for name, _ in names if _any_finite(own, name)]
    for name, label in names:
        if name in wanted:
            on_log = name in ON_LOG and max(_values(own.dropna(subset=[name]), name)) > 0
            panel = _panel(label, [_trace(NETWORK, own, name, look.INK, 0)], record, named=False, log_y=on_log)
            if name == "kernel_change":
                panel.layout["shapes"] = [*panel.layout["shapes"], _level(0.2)]
            panels.append(panel)
    return Figure(title, caption, panels, [_table(own, wanted)], static=key, key=key) if panels else None


def _losses(record: Monitored) -> Figure | None:
    own = record.network
    wanted = [(name, label) for name, label in LOSSES if _any_finite(own, name)]
    if [name for name, _ in wanted] and "loss" in own and "worst_loss" in own and own["loss"].equals(own["worst_loss"]):
        wanted = [(name, label) for name, label in wanted if name != "worst_loss"]
    if not wanted:
        return None
    traces = [_trace(label, own, name, look.colour(i), i) for i, (name, label) in enumerate(wanted)]
    positive = all(min(_values(own.dropna(subset=[name]), name)) > 0 for name, _ in wanted)
    panels = [_panel("Loss", traces, record, named=True, log_y=positive)]
    if _any_finite(own, "rate"):
        panels.append(_panel("Learning rate", [_trace(NETWORK, own, "rate", look.INK, 0)], record, named=False))
        panels[-1].layout["yaxis"]["rangemode"] = "tozero"
    columns = [name for name, _ in wanted] + (["rate"] if "rate" in own else [])
    return Figure(
        "Loss and rate", "The loss of the training is of single batches, or a mean of some, as it was given.", panels,
        [_table(own, columns)], static="loss", key="loss",
    )  # fmt: skip


def _style(who: str, layers: Sequence[str]) -> tuple[str, int]:
    if who == NETWORK:
        return look.INK, 0
    index = list(layers).index(who)
    if len(layers) <= MOST_NAMED:
        return look.colour(index), index
    return look.along_depth(index / max(1, len(layers) - 1)), index


def _trace(who: str, of: pd.DataFrame, name: str, colour: str, number: int) -> dict[str, Any]:
    values = [v if math.isfinite(v) else None for v in _values(of, name)]
    whole = who == NETWORK
    return {
        "type": "scatter", "mode": "lines+markers", "name": plain(who), "x": of["step"].tolist(), "y": values,
        "line": {"color": colour, "width": 2.5 if whole else 1.5},
        "marker": {"color": colour, "symbol": look.symbol(number), "size": 4 if whole else 5},
        "hovertemplate": f"{plain(who)}<br>step %{{x}}: %{{y:.4g}}<extra></extra>", "connectgaps": False,
    }  # fmt: skip


def _panel(
    title: str, traces: list[dict[str, Any]], record: Monitored, *, named: bool, log_y: bool = False
) -> Panel:  # fmt: skip
    steps = record.network["step"]
    frame = layout(
        axis("step", range=_range(steps.tolist())),
        log_axis("", (y for trace in traces for y in trace["y"])) if log_y else axis(""),
        height=HEIGHT, margin={"l": 56, "r": 14, "t": 22, "b": 44},
    )  # fmt: skip
    marks = numbered(record)
    frame["shapes"] = [_line(step) for step in dict.fromkeys(step for step, _ in marks)]
    frame["annotations"] = [
        {"x": step, "y": 1, "xref": "x", "yref": "paper", "yanchor": "bottom", "text": text, "showarrow": False,
         "font": {"size": 10, "color": look.QUIET}}
        for step, text in _joined(marks)
    ]  # fmt: skip
    keys = [_key(trace) for trace in traces] if named and len(traces) > 1 else []
    return Panel(title, traces, frame, "small", keys=keys)


def _key(trace: dict[str, Any]) -> Key:
    mark = trace["marker"]
    return Key(html.unescape(trace["name"]), mark["color"], path=symbol_path(mark["symbol"]))


def numbered(record: Monitored) -> list[tuple[int, str]]:
    """(step, number) of every event, in the order of the list on the page."""
    return [(int(step), str(i + 1)) for i, step in enumerate(record.events["step"])]


def _joined(marks: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The numbers of events of one step together."""
    found: dict[int, list[str]] = {}
    for step, number in marks:
        found.setdefault(step, []).append(number)
    few = {step: ",".join(n) if len(n) < 4 else f"{n[0]}–{n[-1]}" for step, n in found.items()}
    return list(few.items())


def _line(step: int) -> dict[str, Any]:
    return {
        "type": "line", "x0": step, "x1": step, "xref": "x", "y0": 0, "y1": 1, "yref": "paper",
        "line": {"color": look.WARNING, "width": 1, "dash": "dot"},
    }  # fmt: skip


def _level(value: float) -> dict[str, Any]:
    return {
        "type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": value, "y1": value, "yref": "y",
        "line": {"color": look.QUIET, "width": 1, "dash": "dot"},
    }  # fmt: skip


def _range(steps: Sequence[int]) -> list[float]:
    room = max(1.0, 0.04 * (max(steps) - min(steps)))
    return [min(steps) - room, max(steps) + room]


def _any_finite(of: pd.DataFrame, name: str) -> bool:
    return name in of and any(math.isfinite(v) for v in _values(of, name))


def _values(of: pd.DataFrame, name: str) -> list[float]:
    return [float(v) for v in of[name].tolist()]


def _table(table: pd.DataFrame, names: Sequence[str], *, layered: bool = False) -> Table:
    part = table.dropna(subset=list(names), how="all").tail(MOST_ROWS)
    columns = ("step", "layer", *names) if layered else ("step", *names)
    rows = []
    for record in part.to_dict("records"):
        cells = [number_cell(float(record[name])) for name in names]
        if layered:
            cells = [text_cell(record["layer"] or NETWORK), *cells]
        rows.append((str(record["step"]), cells))
    return grid(columns, rows, f"The last {MOST_ROWS} rows" if len(table) > MOST_ROWS else "")
