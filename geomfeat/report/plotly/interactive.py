"""A chart as a plotly figure of its own, outside of a page: with its title, legend and tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geomfeat.charts import Heat, Plot
from geomfeat.report.content.components import clean, plain
from geomfeat.report.plotly.charts import chart_panel

if TYPE_CHECKING:
    import plotly.graph_objects as go

TOP = 40  # pixels for the title


def interactive(plot: Plot | Heat) -> go.Figure:
    """Curves or a map as a plotly figure, which notebooks show and `write_html` saves.

    >>> from geomfeat.charts import Curve
    >>> figure = interactive(Plot("Rise", "x", "y", [Curve("a", [0.0, 1.0], [1.0, 2.0])]))
    >>> figure.data[0].name, figure.layout.showlegend
    ('a', True)
    """
    import plotly.graph_objects as go

    panel = chart_panel(plot)
    data: list[dict[str, Any]] = clean(panel.data)
    for trace in data:
        trace["showlegend"] = bool(trace.get("name")) and "fill" not in trace
        if "name" in trace:  # a click hides the band of a curve with it
            trace["legendgroup"] = trace["name"]
    named = any(trace["showlegend"] for trace in data)
    figure = go.Figure(data, clean(panel.layout))
    # The legend of a map's marks stands above it: its scale is at the right.
    above = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0.0} if isinstance(plot, Heat) and named else {}
    margin = {**panel.layout["margin"], "t": TOP + (30 if above else 0)}
    figure.update_layout(
        title={"text": plain(plot.title), "font": {"size": 14}, "x": 0.02}, showlegend=named, legend=above,
        margin=margin, dragmode="zoom",
    )  # fmt: skip
    return figure
