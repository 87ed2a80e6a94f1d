"""Curves and maps drawn with matplotlib, for notebooks, papers and pages without JavaScript."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from geomfeat.charts import theme as look
from geomfeat.charts.curve_style import bare, bars_of, curve_colours, largest_size, lower_errors
from geomfeat.charts.description import Curve, Heat, Plot
from geomfeat.charts.log_ticks import log_ticks, tick_text
from geomfeat.charts.powers import raised_in_math

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.6, 3.2  # inches
ROW = 0.19  # height of a row with a name
BAND = 0.22  # opacity of a band of errors
ABOVE_MARKS = 22.0  # points: the legend of a map's marks stands between the map and its title


def draw(plot: Plot | Heat, ax: Axes | None = None) -> Axes:
    """One plot drawn into `ax`, or into the axes of a new pyplot figure, which notebooks show; returns the axes."""
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=_size(plot), layout="constrained")[1]
    _fill(ax, plot)
    if isinstance(plot, Heat) and plot.x_ticks:
        for label in ax.get_xticklabels():
            label.set(rotation=40, ha="right")
    above = ABOVE_MARKS if isinstance(plot, Heat) and plot.marks else None
    ax.set_title(raised_in_math(plot.title), fontsize="medium", pad=above)
    return ax


def figure_of(*plots: Plot | Heat) -> Figure:
    """One plot, or several side by side, as a figure that pyplot does not keep."""
    from matplotlib.figure import Figure

    sizes = [_size(plot) for plot in plots]
    figure = Figure(figsize=(sum(w for w, _ in sizes), max(h for _, h in sizes)), layout="constrained")
    for i, plot in enumerate(plots):
        panel = figure.add_subplot(1, len(plots), i + 1)
        _fill(panel, plot)
        marked = isinstance(plot, Heat) and bool(plot.marks)
        if marked and len(plots) == 1:
            figure.suptitle(raised_in_math(plot.title), fontsize="medium")
        else:
            panel.set_title(raised_in_math(plot.title), fontsize="medium", pad=ABOVE_MARKS if marked else None)
    return figure


def _size(plot: Plot | Heat) -> tuple[float, float]:
    rows = len(plot.y_ticks) if isinstance(plot, Plot) else 0
    return WIDTH * (1.4 if rows else 1.0), max(HEIGHT, ROW * rows + 1.0)


def _fill(panel: Axes, plot: Plot | Heat) -> None:
    if isinstance(plot, Plot):
        _curves(panel, plot)
    else:
        _map(panel, plot)
    panel.set(xlabel=raised_in_math(plot.x_label), ylabel=raised_in_math(plot.y_label))


def _curves(panel: Axes, plot: Plot) -> None:
    from matplotlib.ticker import MaxNLocator

    curves = list(plot.curves)
    for curve, (colour, number) in zip(curves, curve_colours(curves), strict=True):
        _line(panel, curve, colour, look.mark(number), plot)
    if plot.log_x:
        panel.set_xscale("log")
        label_log_axis(panel.xaxis, [x for curve in curves for x in curve.x])
    elif not plot.x_ticks and _counts(curves):
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if plot.log_y:
        panel.set_yscale("log")
        label_log_axis(panel.yaxis, [y for curve in curves for y in curve.y])
    for start, stop, height, colour in bars_of(plot):
        panel.plot(
            [start, stop], [height, height], color=colour, linewidth=3, solid_capstyle="butt",
            transform=panel.get_xaxis_transform(),
        )  # fmt: skip
    if plot.x_ticks:
        panel.set_xticks(range(len(plot.x_ticks)), [raised_in_math(t) for t in plot.x_ticks], rotation=40, ha="right")
    if plot.y_ticks:
        panel.set_yticks(range(len(plot.y_ticks)), [raised_in_math(t) for t in plot.y_ticks])
        panel.set_ylim(len(plot.y_ticks) - 0.5, -0.5)
    if any(curve.label for curve in curves):
        panel.legend(fontsize="small", ncols=1 + (len(curves) > 5))


def _counts(curves: Iterable[Curve]) -> bool:
    """Whether all that is drawn lies at whole numbers (steps, ranks), between which ticks mean nothing."""
    at = [float(x) for curve in curves for x in curve.x]
    return bool(at) and all(x.is_integer() for x in at)


def label_log_axis(axis: Axis, values: Iterable[float]) -> None:
    """Label a logarithmic axis of these values as the pages do: at least twice."""
    from matplotlib.ticker import NullFormatter

    if ticks := log_ticks(values):
        axis.set_ticks(list(ticks), labels=[tick_text(tick, html=False) for tick in ticks])
        axis.set_minor_formatter(NullFormatter())


def _line(panel: Axes, curve: Curve, colour: str, mark: str, plot: Plot) -> None:
    if curve.kind == "band":
        panel.plot(curve.x, curve.y, color=colour, label=raised_in_math(curve.label), linewidth=1.2)
        if curve.error is not None:
            low = [y - e for y, e in zip(curve.y, lower_errors(curve, plot.log_y), strict=True)]
            high = [y + e for y, e in zip(curve.y, curve.error, strict=True)]
            panel.fill_between(curve.x, low, high, color=colour, alpha=BAND, linewidth=0)
        return
    error = None if curve.error is None else [lower_errors(curve, plot.log_y), list(curve.error)]
    along_x = bool(plot.y_ticks)
    panel.errorbar(
        curve.x, curve.y, None if along_x else error, curve.error if along_x else None,
        color=colour, label=raised_in_math(curve.label),
        linestyle={"theory": "--", "scatter": "none"}.get(curve.kind, "-"), marker="" if bare(curve) else mark,
        markersize=3, linewidth=1, elinewidth=0.7,
    )  # fmt: skip


def _edges(values: Sequence[float]) -> list[float]:
    """Where cells about these ascending values begin and end; a single one is of width 1.

    >>> _edges([0.0, 1.0, 3.0]), _edges([2.0])
    ([-0.5, 0.5, 2.0, 4.0], [1.5, 2.5])
    """
    at = [float(v) for v in values]
    if len(at) == 1:
        return [at[0] - 0.5, at[0] + 0.5]
    middles = [(a + b) / 2 for a, b in pairwise(at)]
    return [2 * at[0] - middles[0], *middles, 2 * at[-1] - middles[-1]]


def _map(panel: Axes, heat: Heat) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    n = len(heat.categories)
    steps = look.DIVERGING if heat.centered else look.CIVIDIS
    colours = LinearSegmentedColormap.from_list("steps", steps, N=n or 256)
    low, high = (-0.5, n - 0.5) if n else (None, None)
    if heat.centered:
        low, high = -largest_size(heat), largest_size(heat)
    edges = _edges(heat.x), _edges(heat.y)
    image = panel.pcolormesh(*edges, heat.values, cmap=colours, shading="flat", vmin=low, vmax=high)
    bar = panel.figure.colorbar(image, ax=panel, label=raised_in_math(heat.value_label))
    if n:
        bar.set_ticks(list(range(n)), labels=list(heat.categories))
    ends = panel.get_xlim(), panel.get_ylim()
    ink = look.ON_LIGHT if heat.centered else look.ON_DARK  # the middle of a diverging scale is light
    for line in heat.lines:
        panel.plot(line.x, line.y, color=ink, linestyle="--" if line.kind == "theory" else "-", linewidth=1)
    for i, curve in enumerate(heat.marks):
        _, mark = look.PHASE_MARKS.get(curve.label, ("", look.mark(i)))
        panel.plot(
            curve.x, curve.y, linestyle="none", marker=mark, color="#c2410c", markerfacecolor="none",
            label=raised_in_math(curve.label), clip_on=False,
        )  # fmt: skip
    if heat.marks:
        panel.legend(fontsize="x-small", loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False)
    for ticks, texts, put in ((heat.x, heat.x_ticks, panel.set_xticks), (heat.y, heat.y_ticks, panel.set_yticks)):
        if texts:
            put(list(ticks), labels=[raised_in_math(t) for t in texts])
            panel.set_facecolor(look.GRID)
    panel.set(xlim=ends[0], ylim=ends[1])
