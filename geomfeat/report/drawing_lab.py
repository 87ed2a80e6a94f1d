"""Curves and maps of a lab experiment drawn with matplotlib, for papers and for pages without JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geomfeat.lab.findings import Curve, Heat, Plot
from geomfeat.report import look
from geomfeat.report.plots_lab import curve_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.6, 3.2  # inches


def drawn(plot: Plot | Heat) -> Figure:
    """One plot as a figure of its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    panel = figure.add_subplot()
    if isinstance(plot, Plot):
        _curves(panel, plot)
    else:
        _map(figure, panel, plot)
    panel.set(title=_flat(plot.title), xlabel=_flat(plot.x_label), ylabel=_flat(plot.y_label))
    return figure


def _curves(panel: Axes, plot: Plot) -> None:
    curves = list(plot.curves)
    for curve, (colour, number) in zip(curves, curve_colours(curves), strict=True):
        _line(panel, curve, colour, look.mark(number))
    if plot.log_x:
        panel.set_xscale("log")
    if plot.log_y:
        panel.set_yscale("log")
    panel.legend(fontsize="small", ncols=1 + (len(curves) > 5))


def _line(panel: Axes, curve: Curve, colour: str, mark: str) -> None:
    theory = curve.kind == "theory"
    panel.errorbar(
        curve.x, curve.y, None if curve.error is None else curve.error, color=colour, label=_flat(curve.label),
        linestyle={"theory": "--", "scatter": "none"}.get(curve.kind, "-"), marker="" if theory else mark,
        markersize=3, linewidth=1, elinewidth=0.7,
    )  # fmt: skip


def _map(figure: Figure, panel: Axes, heat: Heat) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    n = len(heat.categories)
    colours = LinearSegmentedColormap.from_list("cividis steps", look.CIVIDIS, N=n or 256)
    low, high = (-0.5, n - 0.5) if n else (None, None)
    image = panel.pcolormesh(heat.x, heat.y, heat.values, cmap=colours, shading="nearest", vmin=low, vmax=high)
    bar = figure.colorbar(image, ax=panel, label=_flat(heat.value_label))
    if n:
        bar.set_ticks(list(range(n)), labels=list(heat.categories))
    ends = panel.get_xlim(), panel.get_ylim()
    for line in heat.lines:
        panel.plot(line.x, line.y, color="white", linestyle="--")
    panel.set(xlim=ends[0], ylim=ends[1])


def _flat(text: str) -> str:
    """A text that matplotlib does not read as TeX."""
    return text.replace("$", r"\$")
