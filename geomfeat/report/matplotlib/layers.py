"""Profiles over layers, CKA matrices, spectra and embeddings, in matplotlib."""

from __future__ import annotations

import math
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from geomfeat.charts import theme as look
from geomfeat.charts._draw import label_log_axis
from geomfeat.report.content.map_data import MOST_CLASSES, PAIRS, embedding_parts, shown_matrix
from geomfeat.report.content.profile_data import floor_values, lines_of, moments_of
from geomfeat.report.content.quantity_labels import Entry
from geomfeat.report.content.shared_parts import names_of
from geomfeat.report.content.spectrum_data import shown_spectra
from geomfeat.report.content.study_view import CROWDED, INITIAL, TRAINED, Depth, View, clipped, depth_axis, thinned
from geomfeat.report.matplotlib.location import WIDTH, literal
from geomfeat.report.plotly.maps import LONGEST_NAME

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
LETTERS = 29  # of a title that fit above a panel


def _panels(n: int, height: float, columns: int = COLUMNS, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    across = min(n, columns)
    down = math.ceil(n / across)
    figure = Figure(figsize=(width * across / columns, height * down), layout="constrained")
    axes = list(np.ravel(figure.subplots(down, across, squeeze=False)))
    for spare in axes[n:]:
        spare.set_visible(False)
    return figure, axes[:n]


def layer_profiles(several: list[View], chosen: list[Entry], group: str) -> Figure:
    """One small panel for each quantity: initial dotted and open, trained solid and filled."""
    figure, panels = _panels(len(chosen), 1.9)
    depth = depth_axis(several)
    for axes, entry in zip(panels, chosen, strict=True):
        drawn: list[float] = []
        for at in moments_of(group):
            for members in lines_of(several, entry, at):
                shared = f"start of {names_of(members, several)}" if len(members) > 1 else ""
                drawn += _line(axes, members[0], depth, entry, at, shared)
        for view in several:
            _floor(axes, view, depth, entry)
        if entry.log and drawn and min(drawn) > 0:
            axes.set_yscale("log")
            label_log_axis(axes.yaxis, drawn)
        labels = [literal(label) for label in depth.labels]
        axes.set_xticks(depth.ticks, labels, **({"rotation": 40, "ha": "right"} if depth.kind == "name" else {}))
        axes.set_title("\n".join(wrap(entry.title, LETTERS)), loc="left")
        axes.set_ylabel(entry.axis)
    for axes in panels[-COLUMNS:]:
        axes.set_xlabel(depth.title)
    handles, names = panels[0].get_legend_handles_labels()
    if handles:
        # A legend wider than the page would be cut off: about 100 letters and marks fit on a line.
        across = min(4, max(1, 100 // (max(map(len, names)) + 5)))
        figure.legend(handles, names, loc="outside upper left", ncols=across)
    return figure


def _line(axes: Axes, view: View, depth: Depth, entry: Entry, at: str, shared: str = "") -> list[float]:
    """Draw a line in the colour of its model, or in grey where several models share it; returns its heights."""
    found = view.at(at, entry.measure, entry.quantity)
    values = [(depth.position(view, layer), found[layer]) for layer in view.layers if layer in found]
    y = [math.nan if v.drawn is None else v.drawn for _, v in values]
    known = [v for v in y if math.isfinite(v)]
    if not known:
        return []
    early = at == INITIAL
    words = {INITIAL: ", initial", TRAINED: ", trained"}.get(at, "")
    colour = look.QUIET if shared else view.colour
    axes.errorbar(
        [x for x, _ in values], y, yerr=[v.stderr or 0.0 for _, v in values], color=colour,
        linestyle=":" if early else "-", linewidth=0.9 if early else 1.4, markersize=3.5,
        marker="" if len(values) > CROWDED else "o" if shared else look.mark(view.index),
        markerfacecolor="white" if early else colour, elinewidth=0.7,
        label=literal(shared) or literal(view.name) + words,
    )  # fmt: skip
    return known


def _floor(axes: Axes, view: View, depth: Depth, entry: Entry) -> None:
    found = floor_values(view, entry)
    values = [(depth.position(view, layer), found[layer]) for layer in view.layers if layer in found]
    y = [math.nan if v.drawn is None else v.drawn for _, v in values]
    if not values:
        return
    of = view.at(TRAINED, entry.measure, entry.quantity)
    low = [(depth.position(view, layer), of[layer].value) for layer in view.layers if layer in of and of[layer].low]
    axes.plot([x for x, _ in low], [v for _, v in low], color=view.colour, marker="x", markersize=4, linestyle="")
    axes.plot([x for x, _ in values], y, color=look.FLOOR, linestyle=(0, (1, 2)), linewidth=1.4)


def cka_matrices(several: list[View]) -> Figure:
    """One row of matrices for each model, on one colour scale from 0 to 1."""
    from matplotlib.colors import LinearSegmentedColormap

    shown = [(v, words, m) for v in several for a, b, words in PAIRS if (m := shown_matrix(v, a, b)) is not None]
    figure, panels = _panels(len(shown), 2.3)
    scale = LinearSegmentedColormap.from_list("cividis", list(look.CIVIDIS))
    image: Any = None
    for axes, (view, words, (values, layers)) in zip(panels, shown, strict=True):
        image = axes.imshow(values, vmin=0, vmax=1, cmap=scale)
        ticks = thinned(len(layers), 8)
        names = [literal(clipped(layers[i], 12)) for i in ticks]
        axes.set_xticks(ticks, names, rotation=40, ha="right")
        axes.set_yticks(ticks, names)
        axes.set_title(f"{literal(clipped(view.name, 20))}:\n{words}", loc="left")
    figure.colorbar(image, ax=panels, label="unbiased linear CKA", shrink=0.6)
    return figure


def spectra(several: list[View]) -> Figure:
    """Share of the variance by rank, both axes logarithmic; colour is depth."""
    shown = [(v, found) for v in several if (found := shown_spectra(v))]
    figure, panels = _panels(len(shown), 2.3)
    for axes, (view, found) in zip(panels, shown, strict=True):
        for layer, at, share, values in found:
            early = at == "initial"
            axes.loglog(
                np.arange(1, len(values) + 1), values, color=look.along_depth(share), linestyle=":" if early else "-",
                linewidth=0.9 if early else 1.4, label=None if early else literal(clipped(layer)),
            )  # fmt: skip
        axes.set_ylim(bottom=1e-8 if axes.get_ylim()[0] < 1e-8 else None)
        axes.set_title(f"{literal(clipped(view.name, 18))} (dotted: initial)", loc="left")
        axes.set(xlabel="rank of the principal direction", ylabel="share of the variance")
        axes.legend(loc="lower left", fontsize=6)
    return figure


def embedding(several: list[View], layer: str) -> Figure:
    """The samples of a layer in the plane, before and after training, a colour and mark for each class."""
    shown = [
        (view, f"{literal(clipped(view.name, 20))}: {at}", *parts)
        for view in several
        for at in ("initial", "trained")
        if (parts := embedding_parts(view, at, layer)) is not None
    ]
    figure, panels = _panels(len(shown), 2.4, columns=4, width=WIDTH * 1.3)
    for axes, (view, title, points, labels) in zip(panels, shown, strict=True):
        classes = list(np.unique(labels))
        for i, label in enumerate(classes):
            mine = points[labels == label]
            style = {"color": look.colour(i), "marker": look.mark(i)} if i < MOST_CLASSES else {"color": look.QUIET}
            axes.scatter(*mine.T, s=5, linewidths=0, alpha=0.75, rasterized=True, **style)
            if len(classes) > 1 and i < MOST_CLASSES:
                x, y = np.median(mine, axis=0)
                name = clipped(view.class_name(label), LONGEST_NAME)
                axes.text(x, y, literal(name), ha="center", va="center", fontsize=7, weight="bold",
                          bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8})  # fmt: skip
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, loc="left")
    figure.suptitle(f"UMAP of layer {literal(layer)}", fontsize=8)
    return figure
