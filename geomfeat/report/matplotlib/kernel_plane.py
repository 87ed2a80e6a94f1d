"""The plane of features and kernel, in matplotlib."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from geomfeat.charts import theme as look
from geomfeat.report.content.kernel_plane_data import (
    MOVED_FROM,
    RESTS_UP_TO,
    X_TITLE,
    Y_TITLE,
    KernelMark,
    Place,
    Span,
    area_names,
    drawn_at,
    kernel_areas,
    kernel_marks,
    kernel_plane_ranges,
)
from geomfeat.report.content.study_view import View
from geomfeat.report.matplotlib.location import literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDES = {"top": "top", "bottom": "bottom", "middle": "center"}
EDGE_MARKS = {"left": "<", "right": ">", "down": "v", "up": "^"}


def features_kernel_plane(several: list[View]) -> Figure:
    """Every model by features and kernel, over the areas of the regimes: demand filled, what happened open."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    marks = kernel_marks(several)
    x, y = kernel_plane_ranges(marks)
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(look.tint("transition"))
    for name, (across, along) in kernel_areas(x, y).items():
        size = across[1] - across[0], along[1] - along[0]
        axes.add_patch(Rectangle((across[0], along[0]), *size, facecolor=look.tint(name), edgecolor="none", zorder=0))
    dashed = {"color": look.QUIET, "linewidth": 0.6, "linestyle": "--", "zorder": 0.5}
    axes.axvline(MOVED_FROM, **dashed)
    axes.axhline(RESTS_UP_TO, **dashed)
    for name, (a, b, side) in area_names(x, y).items():
        axes.text(a, b, name.replace(", ", ",\n"), ha="center", va=SIDES[side], weight="bold")
    for mark in marks:
        _draw(axes, mark, x, y)
    axes.set(xlim=x, ylim=y, xlabel=X_TITLE, ylabel=Y_TITLE)
    figure.legend(
        loc="outside upper left",
        ncols=3,
        title="filled: demanded; open: what happened; dashed: thresholds of open marks",
        alignment="left",
    )
    return figure


def _draw(axes: Axes, mark: KernelMark, x: Span, y: Span) -> None:
    view = mark.view
    a, b, edge = drawn_at(mark.demand, x, y)
    if mark.happened is not None:
        c, d, at = drawn_at(mark.happened, x, y)
        axes.plot([a, c], [b, d], color=view.colour, linewidth=0.7, zorder=1)
        _bars(axes, mark.happened, (c, d), view.colour)
        axes.plot(c, d, EDGE_MARKS.get(at, look.mark(view.index)), color=view.colour, markersize=5, zorder=2, ls="none",
                  markerfacecolor="white", markeredgewidth=1.1)  # fmt: skip
    _bars(axes, mark.demand, (a, b), view.colour)
    symbol = EDGE_MARKS.get(edge, "<" if mark.where.at_most else look.mark(view.index))
    axes.plot(a, b, symbol, color=view.colour, markersize=8, zorder=3, markeredgecolor="white", ls="none",
              label=literal(view.name))  # fmt: skip


def _bars(axes: Axes, place: Place, at: tuple[float, float], colour: str) -> None:
    for value, span, across in ((place.x, place.across, True), (place.y, place.along, False)):
        if span is not None and math.isfinite(value):
            ends = (list(span), [at[1]] * 2) if across else ([at[0]] * 2, list(span))
            axes.plot(*ends, color=colour, linewidth=0.9, zorder=1, solid_capstyle="butt")
