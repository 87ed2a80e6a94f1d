"""Curves and maps drawn with matplotlib, for notebooks, papers and pages without JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geomfeat.charts import theme as look
from geomfeat.charts.curve_style import bare, curve_colours, largest_size, lower_errors
from geomfeat.charts.description import Curve, Heat, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.6, 3.2  # inches


def draw(plot: Plot | Heat, ax: Axes | None = None) -> Axes:
    """One plot drawn into `ax`, or into the axes of a new pyplot figure, which notebooks show; returns the axes."""
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")[1]
    _fill(ax, plot)
    if isinstance(plot, Heat) and plot.x_ticks:
        for label in ax.get_xticklabels():
            label.set(rotation=40, ha="right")
    # The legend of a map's marks stands between the map and its title.
    above = 22.0 if isinstance(plot, Heat) and plot.marks else None
    ax.set_title(_flat(plot.title), fontsize="medium", pad=above)
    return ax


def figure_of(plot: Plot | Heat) -> Figure:
    """One plot as a figure that pyplot does not keep."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    panel = figure.add_subplot()
    _fill(panel, plot)
    marked = isinstance(plot, Heat) and bool(plot.marks)
    (figure.suptitle if marked else panel.set_title)(_flat(plot.title), fontsize="medium")
    return figure


def _fill(panel: Axes, plot: Plot | Heat) -> None:
    if isinstance(plot, Plot):
        _curves(panel, plot)
    else:
        _map(panel, plot)
    panel.set(xlabel=_flat(plot.x_label), ylabel=_flat(plot.y_label))


def _curves(panel: Axes, plot: Plot) -> None:
    curves = list(plot.curves)
    for curve, (colour, number) in zip(curves, curve_colours(curves), strict=True):
        _line(panel, curve, colour, look.mark(number), plot.log_y)
    if plot.log_x:
        panel.set_xscale("log")
    if plot.log_y:
        panel.set_yscale("log")
    if plot.x_ticks:
        panel.set_xticks(range(len(plot.x_ticks)), [_flat(t) for t in plot.x_ticks], rotation=40, ha="right")
    if any(curve.label for curve in curves):
        panel.legend(fontsize="small", ncols=1 + (len(curves) > 5))


def _line(panel: Axes, curve: Curve, colour: str, mark: str, log_y: bool) -> None:
    error = None if curve.error is None else [lower_errors(curve, log_y), list(curve.error)]
    panel.errorbar(
        curve.x, curve.y, error, color=colour, label=_flat(curve.label),
        linestyle={"theory": "--", "scatter": "none"}.get(curve.kind, "-"), marker="" if bare(curve) else mark,
        markersize=3, linewidth=1, elinewidth=0.7,
    )  # fmt: skip


def _map(panel: Axes, heat: Heat) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    n = len(heat.categories)
    steps = look.DIVERGING if heat.centered else look.CIVIDIS
    colours = LinearSegmentedColormap.from_list("steps", steps, N=n or 256)
    low, high = (-0.5, n - 0.5) if n else (None, None)
    if heat.centered:
        low, high = -largest_size(heat), largest_size(heat)
    image = panel.pcolormesh(heat.x, heat.y, heat.values, cmap=colours, shading="nearest", vmin=low, vmax=high)
    bar = panel.figure.colorbar(image, ax=panel, label=_flat(heat.value_label))
    if n:
        bar.set_ticks(list(range(n)), labels=list(heat.categories))
    ends = panel.get_xlim(), panel.get_ylim()
    for line in heat.lines:
        panel.plot(line.x, line.y, color="white", linestyle="--" if line.kind == "theory" else "-", linewidth=1)
    for i, curve in enumerate(heat.marks):
        _, mark = look.PHASE_MARKS.get(curve.label, ("", look.mark(i)))
        panel.plot(
            curve.x, curve.y, linestyle="none", marker=mark, color="#c2410c", markerfacecolor="none",
            label=_flat(curve.label), clip_on=False,
        )  # fmt: skip
    if heat.marks:
        panel.legend(fontsize="x-small", loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False)
    for ticks, texts, put in ((heat.x, heat.x_ticks, panel.set_xticks), (heat.y, heat.y_ticks, panel.set_yticks)):
        if texts:
            put(list(ticks), labels=[_flat(t) for t in texts])
            panel.set_facecolor(look.GRID)
    panel.set(xlim=ends[0], ylim=ends[1])


def _flat(text: str) -> str:
    """A text that matplotlib does not read as TeX."""
    return text.replace("$", r"\$")
