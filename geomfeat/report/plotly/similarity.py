"""Similarity of models and their layers: matrices, a dendrogram, and maps in the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geomfeat.charts import theme as look
from geomfeat.report.content.components import Figure, Panel, axis, grid, layout, note, number_cell, plain
from geomfeat.report.content.quantity_labels import similarity_words
from geomfeat.report.content.study_view import clipped

if TYPE_CHECKING:
    from geomfeat.comparison.models.result import ModelComparison

MOST_NAMED = 48  # layers, above which names along a matrix cannot be read
MOST_NUMBERED = 12
FEW = 20  # areas and layers, up to which each has its name beside the matrix
SCALE = [[i / (len(look.CIVIDIS) - 1), c] for i, c in enumerate(look.CIVIDIS)]


def layer_names(found: ModelComparison) -> list[str]:
    """ "model: layer" of every layer."""
    return [f"{m}: {l}" for m, l in zip(found.layers["model"], found.layers["layer"], strict=True)]


def owners(found: ModelComparison) -> list[int]:
    """The index of the model that each layer is of."""
    return [found.names.index(name) for name in found.layers["model"]]


def models_figure(found: ModelComparison) -> Figure:
    """Similarity between models, and their map where there are at least three."""
    names = [plain(name) for name in found.names]
    n = len(names)
    marks = {"showgrid": False, "type": "category", "range": [-0.5, n - 0.5]}
    numbers = [_number(found.model_similarity[i, j], i, j) for i in range(n) for j in range(n)]
    frame = layout(
        axis("", **marks, tickangle=-40 if sum(map(len, names)) > 30 else 0),
        axis("", **{**marks, "range": [n - 0.5, -0.5]}),
        annotations=numbers if n <= MOST_NUMBERED else [],
        margin={"l": 40, "r": 8, "t": 6, "b": 40},
    )
    panels = [Panel("Similarity of models", [_heat(found.model_similarity, names, names)], frame, "square")]
    caption = (
        "Each cell is the mean, over the layers of one model, of the similarity with the best matching layer of the "
        "other, averaged over both directions (1 = every layer has a match with the same geometry)."
    )
    if n >= 3:
        panels.append(_models_map(found))
        caption += (
            f" On the map (classical scaling of the angles arccos(similarity), of which the plane shows "
            f"{100 * found.map_shares[1]:.0f} %) similar models are close; directions have no meaning."
        )
    rows = [(name, [number_cell(float(v)) for v in line])
            for name, line in zip(found.names, found.model_similarity, strict=True)]  # fmt: skip
    table = grid(("model", *found.names), rows, "Similarity of models")
    if n == 2:  # one number, which the answer gives
        return Figure("", caption, [], [table], folded=panels, fold_title="The square")
    return Figure("", caption, panels, [table], bar=("similarity 0", "1", look.CIVIDIS))


def _models_map(found: ModelComparison) -> Panel:
    data = [
        {
            "type": "scatter", "mode": "markers", "x": [float(x)], "y": [float(y)], "meta": {"model": i},
            "marker": {"color": look.colour(i), "symbol": look.symbol(i), "size": 13},
            "hovertemplate": f"{plain(found.names[i])}<extra></extra>",
        }
        for i, (x, y) in enumerate(found.model_map)
    ]  # fmt: skip
    names = [
        note(float(x), float(y), plain(name), yshift=16, font={"size": 12, "color": look.INK})
        for name, (x, y) in zip(found.names, found.model_map, strict=True)
        if np.isfinite(x)
    ]
    return Panel("Map of models", data, _plane(found.model_map, names), "square")


def layers_figure(found: ModelComparison) -> Figure:
    """All layers with all layers, in the order of the models and in that of the clusters, with the dendrogram."""
    every = np.arange(len(found.layers))
    panels = [
        _matrix(found, every, "In the order of the models", False),
        _matrix(found, found.order, "In the order of the clusters", True),
    ]
    areas = bool(found.layers["depth"].isna().any())
    order = "layers from input to output and areas in sorted order" if areas else "from input to output"
    measure, two = similarity_words(found.settings.get("similarity", "CKA")), "areas or layers" if areas else "layers"
    caption = (
        f"Each cell compares two {two} by {measure} (1 = same geometry up to rotation and scale, 0 = unrelated). Left: "
        f"models one after the other, {order}; a bright diagonal in the block of two networks means that layers at the "
        "same depth correspond. Right: the same, sorted so that similar ones are neighbours; the tree joins clusters "
        "at their mean angle arccos(similarity), and the colour strip shows the model."
    )
    limited = "" if len(every) <= MOST_NAMED else "Hover a cell to see the names of its layers."
    names = layer_names(found)
    rows = [(name, [number_cell(float(v)) for v in line]) for name, line in zip(names, found.similarity, strict=True)]
    return Figure(
        "", caption, panels, [grid(("layer", *names), rows, "Similarity of layers")],
        bar=("similarity 0", "1", look.CIVIDIS), note=limited,
    )  # fmt: skip


def _matrix(found: ModelComparison, order: np.ndarray, title: str, clustered: bool) -> Panel:
    names = [plain(layer_names(found)[i]) for i in order]
    owner, n = np.array(owners(found))[order], len(order)
    data = [_heat(found.similarity[np.ix_(order, order)], names, names)]
    side = 0.8 if clustered else 1.0
    quiet = {"showgrid": False, "type": "category"}
    columns = {"showticklabels": False, "ticks": ""}
    if clustered:
        shown = [found.layers["layer"].iloc[i] for i in order]
        ticks = {"tickvals": names, "ticktext": [plain(clipped(s, 18)) for s in shown]} if n <= MOST_NAMED else {}
        rows = {"tickfont": {"size": 11 if n <= FEW else 8.5}, **(ticks or {"showticklabels": False, "ticks": ""})}
    else:
        starts = [int(np.flatnonzero(owner == m).mean()) for m in dict.fromkeys(owner)]
        words = [plain(clipped(found.names[m], 16)) for m in dict.fromkeys(owner)]
        rows = {"tickvals": [names[i] for i in starts], "ticktext": words, "ticks": ""}
        if n <= FEW and bool(found.layers["depth"].isna().any()):
            rows = {"tickvals": names, "ticktext": [plain(clipped(s, 22)) for s in layer_names(found)], "ticks": ""}
    frame = layout(
        axis("", **quiet, range=[-2.0, n - 0.5] if clustered else [-0.5, n - 0.5], domain=[0, side], **columns),
        axis("", **quiet, range=[n - 0.5, -0.5], **rows),
        margin={"l": 40, "r": 8, "t": 6, "b": 30}, height=520,
        shapes=_strip(owner) if clustered else _borders(owner),
    )  # fmt: skip
    if clustered and len(found.linkage):
        data.append(_tree(found.linkage))
        hidden = {"showgrid": False, "showticklabels": False, "ticks": "", "zeroline": False, "showline": False}
        frame["xaxis2"] = {**hidden, "domain": [side + 0.01, 1], "anchor": "y2", "rangemode": "tozero"}
        frame["yaxis2"] = {**hidden, "range": [n - 0.5, -0.5], "anchor": "x2", "overlaying": "y", "fixedrange": True}
        frame["yaxis"]["fixedrange"] = True
    return Panel(title, data, frame, "matrix")


def _heat(values: np.ndarray, rows: list[str], columns: list[str]) -> dict[str, Any]:
    few = len(rows) <= 20
    return {
        "type": "heatmap", "z": values, "x": columns, "y": rows, "zmin": 0, "zmax": 1, "showscale": False,
        "colorscale": SCALE, "hovertemplate": "%{y}<br>with %{x}<br>%{z:.3f}<extra></extra>",
        "xgap": 1 if few else 0, "ygap": 1 if few else 0,
    }  # fmt: skip


def _number(value: float, row: int, column: int) -> dict[str, Any]:
    ink = look.ON_DARK if value < 0.55 else look.ON_LIGHT  # dark cells carry white numbers
    text = f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "–"
    return note(column, row, text, font={"size": 11, "color": ink})


def _borders(owner: np.ndarray) -> list[dict[str, Any]]:
    """White lines between the models."""
    line, shapes = {"color": look.ON_DARK, "width": 2}, []
    for k in np.flatnonzero(np.diff(owner)) + 0.5:
        shapes.append({"type": "line", "x0": k, "x1": k, "y0": -0.5, "y1": len(owner) - 0.5, "line": line})
        shapes.append({"type": "line", "y0": k, "y1": k, "x0": -0.5, "x1": len(owner) - 0.5, "line": line})
    return shapes


def _strip(owner: np.ndarray) -> list[dict[str, Any]]:
    """A column of cells in the colours of the models, left of the matrix."""
    return [
        {"type": "rect", "x0": -1.9, "x1": -0.8, "y0": i - 0.5, "y1": i + 0.5, "line": {"width": 0},
         "fillcolor": look.colour(int(m))}
        for i, m in enumerate(owner)
    ]  # fmt: skip


def _tree(linkage: np.ndarray) -> dict[str, Any]:
    from scipy.cluster.hierarchy import dendrogram

    made = dendrogram(linkage, no_plot=True)
    x, y = [], []
    for heights, leaves in zip(made["dcoord"], made["icoord"], strict=True):
        x += [*heights, None]
        y += [*((leaf - 5) / 10 for leaf in leaves), None]  # scipy sets leaves at 5, 15, 25, ...
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "xaxis": "x2", "yaxis": "y2",
        "line": {"color": look.QUIET, "width": 1}, "hovertemplate": "joined at %{x:.2f} rad<extra></extra>",
    }  # fmt: skip


def maps_figure(found: ModelComparison) -> Figure:
    """Layers in the plane: each model a path from its first to its last layer."""
    panels = [_layers_map(found, found.layer_map, "Classical scaling")]
    areas = bool(found.layers["depth"].isna().any())
    caption = (
        "Every mark is a layer, and each network a path from its first layer (open) to its last (large, named); "
        "areas have names of their own and no path, since they have no order. Distances approximate the angles "
        if areas
        else "Every mark is a layer, and each model a path from its first layer (open) to its last (large, with the "
        "name). Paths that run together belong to models whose layers correspond. Distances approximate the angles "
    )
    caption += (
        f"arccos(similarity); this plane shows {100 * found.map_shares[0]:.0f} % of them; directions have no meaning."
    )
    if len(found.umap):
        panels.append(_layers_map(found, found.umap, "UMAP"))
        caption += " UMAP keeps neighbours together; its long distances have no meaning."
    rows = [
        (name, [number_cell(float(depth)), *(number_cell(float(v)) for v in place)])
        for name, depth, place in zip(layer_names(found), found.layers["depth"], found.layer_map, strict=True)
    ]
    table = grid(("layer", "depth", "across", "up"), rows, "Classical scaling of the layers")
    return Figure("", caption, panels, [table])


def _layers_map(found: ModelComparison, places: np.ndarray, title: str) -> Panel:
    data, marks, owner = [], [], np.array(owners(found))
    for i, name in enumerate(found.names):
        mine = np.flatnonzero((owner == i) & np.isfinite(places).all(1))
        if not len(mine):
            continue
        depth = np.nan_to_num(found.layers["depth"].to_numpy()[mine], nan=0.5)
        areas = bool(found.layers["depth"].iloc[mine].isna().all())
        symbol, alone = look.symbol(i), len(mine) == 1 or areas
        data.append({
            "type": "scatter", "mode": "markers" if alone else "lines+markers",
            "x": places[mine, 0], "y": places[mine, 1],
            "customdata": [[plain(name), plain(found.layers["layer"].iloc[k])] for k in mine],
            "hovertemplate": "%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
            "line": {"color": look.colour(i), "width": 1},
            "marker": {
                "color": look.colour(i), "size": [11] * len(mine) if alone else list(5 + 6 * depth),
                "symbol": [symbol if k or alone else f"{symbol}-open" for k in range(len(mine))],
            },
            "meta": {"model": i},
        })  # fmt: skip
        named = {int(k): str(found.layers["layer"].iloc[k]) for k in mine} if areas else {int(mine[-1]): name}
        marks += [
            note(float(places[k, 0]), float(places[k, 1]), plain(clipped(word, 22)), yshift=14,
                 font={"size": 12, "color": look.INK}, bgcolor="rgba(255,255,255,0.75)")
            for k, word in named.items()
        ]  # fmt: skip
    return Panel(title, data, _plane(places, marks), "map")


def _plane(places: np.ndarray, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """A frame without ticks, of one scale for both axes, with room for names."""
    known = places[np.isfinite(places).all(1)]
    low, high = (known.min(0), known.max(0)) if len(known) else (np.zeros(2), np.ones(2))
    pad = 0.14 * max(float((high - low).max()), 1e-3)
    bare = {"showticklabels": False, "ticks": "", "showgrid": False, "mirror": True, "showline": True,
            "automargin": False}  # fmt: skip
    return layout(
        axis("", **bare, range=[low[0] - pad, high[0] + pad]),
        axis("", **bare, range=[low[1] - pad, high[1] + pad], scaleanchor="x"),
        annotations=annotations, margin={"l": 6, "r": 6, "t": 6, "b": 6},
    )  # fmt: skip
