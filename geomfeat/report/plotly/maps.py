"""Maps: similarity matrices between layers, and samples of a layer laid out in the plane before and after training."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from geomfeat.charts import theme as look
from geomfeat.report.content.components import (
    Figure,
    Panel,
    Table,
    axis,
    grid,
    layout,
    note,
    number_cell,
    plain,
    text_cell,
)
from geomfeat.report.content.map_data import (
    MOST_CLASSES,
    MOST_LAYERS,
    MOST_POINTS,
    PAIRS,
    embedding_parts,
    shown_matrix,
)
from geomfeat.report.content.shared_parts import alike, names_of, only, same_array
from geomfeat.report.content.study_view import View, clipped, thinned

FEW_LAYERS = 4  # up to which a square of numbers is small
LONGEST_NAME = 14  # letters of a class's name next to its points


def cka_matrices(several: Sequence[View]) -> Figure | None:
    """Unbiased linear CKA between all layers: within the initial network, within the trained one, between the two."""
    panels, tables, cut, small = [], [], False, True
    shown = {
        (view.index, words): shown_matrix(view, first, second) for first, second, words in PAIRS for view in several
    }
    for group, words in _once(several, [words for *_, words in PAIRS], lambda *place: _matrix_key(shown[place])):
        values, layers = shown[group[0].index, words]  # type: ignore[misc]
        cut, small = cut or len(layers) < len(group[0].layers), small and len(layers) <= FEW_LAYERS
        title = f"{names_of(group, several)}: {words}"
        panels.append(matrix_panel(only(group), title, values, layers))
        tables.append(matrix_table(title, values, layers))
    if not panels:
        return None
    if small:
        panels = [replace(panel, size="tiny") for panel in panels]
    together = small or any(panel.model is None for panel in panels)
    caption = (
        "Each square compares two layers by unbiased linear CKA (1 = same geometry up to rotation and scale, 0 = "
        "unrelated). In 'initial with trained', rows are the initial layers and columns the trained ones: a bright "
        "diagonal means that layers kept their initial geometry."
    )
    limited = (
        f"For networks with more than {MOST_LAYERS} layers, {MOST_LAYERS} evenly spaced ones are shown." if cut else ""
    )
    bar = ("CKA 0", "1", look.CIVIDIS)
    return Figure("", caption, panels, tables, bar=bar, shape="many" if together else "triples", note=limited)


def _once(
    several: Sequence[View], kinds: Sequence[str], key: Callable[[int, str], Hashable | None]
) -> list[tuple[list[View], str]]:
    """(models, kind) of every different thing, in the order of the models: what several share stands with the first."""
    groups = {kind: alike(several, lambda view, kind=kind: key(view.index, kind)) for kind in kinds}
    return [(group, kind) for view in several for kind in kinds for group in groups[kind] if group[0] is view]


def _matrix_key(matrix: tuple[np.ndarray, list[str]] | None) -> Hashable | None:
    return None if matrix is None else (*matrix[1], same_array(matrix[0]))


def matrix_panel(model: int | None, title: str, values: np.ndarray, layers: list[str]) -> Panel:
    """CKA between all layers of one model."""
    n = len(layers)
    ticks = thinned(n, 10)
    marks = {"tickvals": ticks, "ticktext": [plain(clipped(layers[i], 12)) for i in ticks], "showgrid": False}
    pairs = [[[plain(a), plain(b)] for b in layers] for a in layers]
    heat = {
        "type": "heatmap", "z": values, "zmin": 0, "zmax": 1, "showscale": False, "customdata": pairs,
        "colorscale": [[i / (len(look.CIVIDIS) - 1), c] for i, c in enumerate(look.CIVIDIS)],
        "hovertemplate": "%{customdata[0]} with %{customdata[1]}<br>CKA %{z:.3f}<extra></extra>",
        "xgap": 1 if n <= 20 else 0, "ygap": 1 if n <= 20 else 0,
    }  # fmt: skip
    numbers = [_number(values[i, j], i, j) for i in range(n) for j in range(n) if np.isfinite(values[i, j])]
    slant = -40 if sum(len(layers[i]) for i in ticks) > 20 else 0
    frame = layout(
        axis("", **marks, tickangle=slant, range=[-0.5, n - 0.5]),
        axis("", **marks, range=[n - 0.5, -0.5]),
        annotations=numbers if n <= 7 else [],
        margin={"l": 40, "r": 8, "t": 6, "b": 40},
    )
    return Panel(title, [heat], frame, "square", model)


def _number(value: float, row: int, column: int) -> dict[str, Any]:
    ink = look.ON_DARK if value < 0.55 else look.ON_LIGHT  # dark cells carry white numbers
    return note(column, row, f"{value:.2f}".replace("-", "−"), font={"size": 10, "color": ink})


def matrix_table(title: str, values: np.ndarray, layers: list[str]) -> Table:
    """The numbers of a matrix between layers."""
    rows = [(layer, [number_cell(float(v)) for v in line]) for layer, line in zip(layers, values, strict=True)]
    return grid(("layer", *layers), rows, title)


def embeddings(several: Sequence[View]) -> list[Figure]:
    """UMAP of the chosen layers, before and after training, one colour for each class."""
    layers = list(
        dict.fromkeys(layer for v in several for at in ("initial", "trained") for layer, _ in v.arrays("umap", at))
    )
    return [_embedding(several, layer) for layer in layers]


def _embedding(several: Sequence[View], layer: str) -> Figure:
    panels, tables, cut = [], [], False
    moments = ("initial", "trained")
    shown = {(view.index, at): embedding_parts(view, at, layer) for at in moments for view in several}
    for group, at in _once(several, moments, lambda *place: _points_key(shown[place])):
        view, parts = group[0], shown[group[0].index, at]
        assert parts is not None
        cut = cut or len(view.array("umap", at, layer)) > MOST_POINTS
        title = f"{names_of(group, several)}: {at}"
        panels.append(_embedding_panel(view, only(group), title, *parts))
        tables.append(_embedding_table(view, title, *parts))
    caption = (
        "Each point is a sample, coloured and marked by its class (names or numbers mark the middle of a class). "
        "Classes that form clusters after training but not before were separated by learning. UMAP keeps neighbours "
        "together; distances between clusters, directions and areas have no meaning."
    )
    limited = f"At most {MOST_POINTS} samples are drawn. " if cut else ""
    limited += "The tables give the number of samples drawn and the median position of each class."
    title = f"Samples in layer {layer} (UMAP)"
    together = any(panel.model is None for panel in panels)
    return Figure(title, caption, panels, tables, shape="many" if together else "pairs", note=limited)


def _points_key(parts: tuple[np.ndarray, np.ndarray] | None) -> Hashable | None:
    return None if parts is None else (same_array(parts[0]), same_array(parts[1]))


def _embedding_panel(view: View, model: int | None, title: str, points: np.ndarray, labels: np.ndarray) -> Panel:
    classes = list(np.unique(labels))
    data: list[dict[str, Any]] = []
    marks = []
    for i, label in enumerate(classes[:MOST_CLASSES]):
        mine, name = points[labels == label], view.class_name(label)
        data.append({
            "type": "scatter", "mode": "markers", "x": mine[:, 0], "y": mine[:, 1],
            "marker": {"color": look.colour(i), "symbol": look.symbol(i), "size": 5, "opacity": 0.75},
            "text": f"class {plain(name)}", "hovertemplate": "%{text}<extra></extra>",
        })  # fmt: skip
        if len(classes) > 1:
            x, y = np.median(mine, axis=0)
            short = f"<b>{plain(clipped(name, LONGEST_NAME))}</b>"
            marks.append(note(float(x), float(y), short, bgcolor="rgba(255,255,255,0.8)",
                              font={"size": 11, "color": look.INK}))  # fmt: skip
    rest = points[np.isin(labels, classes[MOST_CLASSES:])]
    if len(rest):
        quiet = {"color": look.QUIET, "size": 4, "opacity": 0.4}
        data.append({"type": "scatter", "mode": "markers", "x": rest[:, 0], "y": rest[:, 1], "marker": quiet,
                     "text": "another class", "hovertemplate": "%{text}<extra></extra>"})  # fmt: skip
    bare = {
        "showticklabels": False,
        "ticks": "",
        "showgrid": False,
        "mirror": True,
        "showline": True,
        "automargin": False,
    }
    frame = layout(axis("", **bare), axis("", **bare), annotations=marks, margin={"l": 6, "r": 6, "t": 6, "b": 6})
    return Panel(title, data, frame, "square", model)


def _embedding_table(view: View, title: str, points: np.ndarray, labels: np.ndarray) -> Table:
    rows = []
    for label in np.unique(labels):
        x, y = np.median(points[labels == label], axis=0)
        count = int((labels == label).sum())
        rows.append((view.class_name(label), [number_cell(float(count)), number_cell(float(x)), number_cell(float(y))]))
    return Table(title, ("class", "samples drawn", "across", "up"), [[text_cell(head), *cells] for head, cells in rows])
