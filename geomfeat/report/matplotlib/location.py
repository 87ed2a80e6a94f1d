"""The richness scale and the plane of demand and movement, in matplotlib."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from geomfeat.charts import theme as look
from geomfeat.location.regimes import BY_OPTIMIZER, LAZY_BELOW, RICH_DEMAND
from geomfeat.report.content.location_data import column, located, on_scale, plane_ranges, regime_areas, scale_range
from geomfeat.report.content.sentences import true_minus
from geomfeat.report.content.study_view import View, clipped
from geomfeat.report.plotly.location import scale_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 28
WIDTH = 6.9  # inches: the text width of a page with two columns


def literal(name: object) -> str:
    """A name as matplotlib must be given it: a dollar sign would start a formula, and a long name squeeze the axes.

    >>> literal("a$b")
    'a\\\\$b'
    """
    return clipped(str(name), LONGEST).replace("$", r"\$")


def richness_scale(several: list[View]) -> Figure:
    """R of every model with interval, floor and the bands of the regimes."""
    from matplotlib.figure import Figure

    found = located(several)
    low, high = scale_range(found)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.42 * len(found)), layout="constrained")
    axes = figure.subplots()
    bands = ((low, LAZY_BELOW, "lazy"), (LAZY_BELOW, RICH_DEMAND, "transition"), (RICH_DEMAND, high, "rich"))
    for a, b, name in bands:
        axes.axvspan(a, b, color=look.tint(name), alpha=0.55, linewidth=0)
        axes.text((a + b) / 2, 1.02, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
    for row, (view, where) in enumerate(found):
        y = len(found) - row
        axes.text(
            low + 0.02 * (high - low),
            y + 0.22,
            f"{literal(view.name)}   {'' if where.is_frozen else 'R = '}{true_minus(scale_text(where))}",
            va="bottom",
        )
        if not on_scale(where):
            continue
        if math.isfinite(where.low) and math.isfinite(where.high):
            axes.plot([where.low, where.high], [y, y], color=view.colour, linewidth=2.5, solid_capstyle="butt")
        if where.floor is not None and math.isfinite(where.floor):
            axes.plot([where.floor] * 2, [y - 0.2, y + 0.2], color=look.FLOOR, linewidth=2)
        axes.plot(where.richness, y, "<" if where.at_most else look.mark(view.index), color=view.colour,
                  markeredgecolor="white", markersize=8, zorder=3)  # fmt: skip
    axes.set(
        xlim=(low, high),
        ylim=(0.5, len(found) + 0.75),
        yticks=[],
        xlabel="richness R, decades of the features' own size",
    )
    axes.spines["left"].set_visible(False)
    return figure


def demand_movement_plane(several: list[View]) -> Figure:
    """Every layer of every model in the plane of R and M, over the areas of the regimes."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon

    x, y = plane_ranges(several)
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(look.tint("transition"))
    for name, polygons in regime_areas(x, y).items():
        for polygon in polygons:
            axes.add_patch(Polygon(polygon, closed=True, facecolor=look.tint(name), edgecolor="none", zorder=0))
    places = {"lazy": (0.03, 0.03, "left"), "rich": (0.97, 0.03, "right"), BY_OPTIMIZER: (0.03, 0.95, "left")}
    for name, (a, b, side) in places.items():
        axes.text(a, b, name, transform=axes.transAxes, ha=side, weight="bold")
    axes.text((LAZY_BELOW + RICH_DEMAND) / 2, LAZY_BELOW - 0.35, "transition", ha="center", weight="bold")
    ends = [max(x[0], y[0]), min(x[1], y[1])]
    axes.plot(ends, ends, "--", color=look.INK, linewidth=0.9, zorder=1)
    for view, where in located(several):
        demand, movement = column(where, "richness"), column(where, "movement")
        sizes = [14 + 24 * i / max(len(demand) - 1, 1) for i in range(len(demand))]
        axes.plot(demand, movement, color=view.colour, linewidth=0.7, alpha=0.85)
        axes.scatter(demand, movement, s=sizes, color=view.colour, marker=look.mark(view.index), linewidths=0.4,
                     edgecolors="white", zorder=2)  # fmt: skip
        axes.plot(where.richness, where.movement, look.mark(view.index), color=view.colour, markersize=9, zorder=3,
                  markeredgecolor=look.INK, markeredgewidth=1.2, ls="none", label=literal(view.name))  # fmt: skip
    axes.set(xlim=x, ylim=y, xlabel="demand R, decades", ylabel="movement M, decades")
    figure.legend(loc="outside upper left", ncols=3)
    return figure
