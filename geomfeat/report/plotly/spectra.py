"""Spectra of layers on logarithmic axes, initial and trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geomfeat.charts import theme as look
from geomfeat.report.content.components import Figure, Panel, Table, grid, layout, log_axis, number_cell, plain
from geomfeat.report.content.spectrum_data import MOST_LAYERS, shown_spectra, spectrum_layers
from geomfeat.report.content.study_view import AT_KEYS, View

LOWEST = 1e-8  # share of the variance at which the axis ends
RANKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 5000)


def spectra(several: Sequence[View]) -> Figure | None:
    """Eigenvalues of the covariance by rank, relative to their sum, for a few layers of every model."""
    panels, tables, cut = [], [], False
    for view in several:
        found = shown_spectra(view)
        if not found:
            continue
        cut = cut or len(spectrum_layers(view)) > MOST_LAYERS
        panels.append(_panel(view, found))
        tables.append(_table(view, found))
    if not panels:
        return None
    caption = (
        "Each line is a layer (dark near the input, light near the output; dotted initial, solid trained) and "
        "shows the share of the variance along each principal direction: the steeper it falls, the fewer directions "
        "it uses."
    )
    limited = f"Of each model at most {MOST_LAYERS} layers are drawn, evenly spread over its depth. " if cut else ""
    limited += "Hover a line to see its layer."
    bar = ("near the input", "near the output", look.DEPTH)
    return Figure("", caption, panels, tables, bar=bar, note=limited, bar_of_lines=True)


def _panel(view: View, found: list[tuple[str, str, float, np.ndarray]]) -> Panel:
    data: list[dict[str, Any]] = []
    for layer, at, share, values in found:
        keep = log_ranks(len(values))
        early = at == "initial"
        data.append({
            "type": "scatter", "mode": "lines", "x": keep, "y": values[np.array(keep, dtype=int) - 1],
            "line": {
                "color": look.along_depth(share), "width": 1.6 if early else 2.4, "dash": "dot" if early else "solid",
            },
            "customdata": [plain(layer)] * len(keep), "meta": {"model": view.index, "at": AT_KEYS[at]},
            "hovertemplate": f"%{{customdata}}, {at}<br>direction %{{x}}: %{{y:.2e}}<extra></extra>",
        })  # fmt: skip
    lowest = min((float(values.min()) for *_, values in found if len(values)), default=1e-6)
    lowest = max(lowest, LOWEST)
    y = log_axis("share of the variance", (lowest, 1.0), range=[np.log10(lowest) - 0.2, 0.1])
    return Panel(
        view.name,
        data,
        layout(log_axis("rank of the principal direction", (x for trace in data for x in trace["x"])), y),
        model=view.index,
    )


def log_ranks(n: int) -> list[int]:
    """Ranks from 1 to n, dense at first, then evenly spaced on the logarithmic axis: more points are not visible."""
    return sorted({*range(1, min(n, 20) + 1), *(int(r) for r in np.geomspace(1, n, 60))}) if n else []


def _table(view: View, found: list[tuple[str, str, float, np.ndarray]]) -> Table:
    longest = max((len(values) for *_, values in found), default=0)
    ranks = [r for r in RANKS if r <= longest]
    rows = [
        (str(r), [number_cell(float(v[r - 1])) if r <= len(v) else number_cell(None) for *_, v in found]) for r in ranks
    ]
    heads = [f"{layer}, {at}" for layer, at, *_ in found]
    return grid(("rank", *heads), rows, f"{view.name}: share of the variance by rank")
