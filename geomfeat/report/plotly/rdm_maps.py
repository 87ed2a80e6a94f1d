"""Dissimilarity matrices of areas, brains and layers as small maps of one colour scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geomfeat.charts import theme as look
from geomfeat.report.content.components import Figure, Panel, Table, axis, grid, layout, number_cell, plain
from geomfeat.report.content.study_view import clipped, thinned
from geomfeat.report.plotly.similarity import SCALE, layer_names

if TYPE_CHECKING:
    from geomfeat.comparison.models.result import ModelComparison

MOST_MAPS = 12
MOST_CONDITIONS = 100  # in a map; their squares alone would outweigh the page
MOST_ROWS = 300  # pairs in the table of the page
GIVEN = ("RDMs", "brain")


def rdm_figures(found: ModelComparison) -> list[Figure]:
    """One figure of the matrices of all layers, areas and brains; none where there are none, or too many conditions."""
    names = [str(name) for name in found.settings.get("conditions", ())]
    if not len(found.rdms) or len(names) > MOST_CONDITIONS:
        return []
    chosen = _chosen(found)
    made = [i for i in chosen if found.layers["kind"].iloc[i] not in GIVEN]
    top = float(np.nanmax(found.rdms[made])) if made else 1.0
    titles = layer_names(found)
    panels, scaled = [], False
    for i in chosen:
        values = found.rdms[i]
        if i not in made:
            values, scaled = values * top / max(float(np.nanmax(values)), np.finfo(float).tiny), True
        panels.append(_panel(titles[i], values, names, top))
    caption = (
        "Each square holds the correlation distances (1 − r over units) between the patterns of all pairs of "
        "conditions, in one area or layer: dark pairs are represented alike. All squares have one colour scale and one "
        f"order of conditions: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}. Noise of the trials makes "
        "all distances of an area larger, so compare patterns of dark and bright, and not levels."
    )
    if scaled:
        caption += (
            " Matrices that were given are in units of their own: their largest distance has the brightest colour."
        )
    left = int(np.isfinite(found.rdms).any(1).sum()) - len(chosen)
    limited = f"{left} more layers are in the results alone." if left > 0 else ""
    return [
        Figure("", caption, panels, [_table(found, chosen, names)], bar=("distance 0", f"{top:.2f}", look.CIVIDIS),
               shape="triples", note=limited)
    ]  # fmt: skip


def _chosen(found: ModelComparison) -> list[int]:
    """Places of the matrices that are drawn: areas and brains first, then evenly spread layers."""
    known = np.flatnonzero(np.isfinite(found.rdms).any(1)).tolist()
    recorded = [i for i in known if np.isnan(found.layers["depth"].iloc[i]) or found.layers["kind"].iloc[i] in GIVEN]
    recorded = recorded[:MOST_MAPS]
    rest = [i for i in known if i not in recorded]
    room = MOST_MAPS - len(recorded)
    return recorded + ([rest[i] for i in thinned(len(rest), room)] if room > 1 else rest[:room])


def _panel(title: str, values: np.ndarray, names: list[str], top: float) -> Panel:
    n = len(names)
    square = np.zeros((n, n))
    square[np.triu_indices(n, 1)] = values
    square += square.T
    few = n <= 16
    ticks = thinned(n, 16)
    marks = {"tickvals": ticks, "ticktext": [plain(clipped(names[i], 14)) for i in ticks], "showgrid": False,
             "tickfont": {"size": 9}}  # fmt: skip
    heat = {
        "type": "heatmap", "z": square, "zmin": 0, "zmax": top, "showscale": False, "colorscale": SCALE,
        "customdata": [[[plain(a), plain(b)] for b in names] for a in names] if few else None,
        "hovertemplate": ("%{customdata[0]} and %{customdata[1]}<br>" if few else "") + "%{z:.3f}<extra></extra>",
        "xgap": int(few), "ygap": int(few),
    }  # fmt: skip
    frame = layout(
        axis("", **marks, tickangle=-60, range=[-0.5, n - 0.5]), axis("", **marks, range=[n - 0.5, -0.5]),
        margin={"l": 40, "r": 8, "t": 6, "b": 40},
    )  # fmt: skip
    return Panel(title, [heat], frame, "square")


def _table(found: ModelComparison, chosen: list[int], names: list[str]) -> Table:
    first, second = np.triu_indices(len(names), 1)
    titles = layer_names(found)
    rows = [
        (f"{names[a]}, {names[b]}", [number_cell(float(found.rdms[i, k])) for i in chosen])
        for k, (a, b) in enumerate(zip(first[:MOST_ROWS].tolist(), second[:MOST_ROWS].tolist(), strict=True))
    ]
    return grid(("conditions", *(titles[i] for i in chosen)), rows, "Distances between conditions")
