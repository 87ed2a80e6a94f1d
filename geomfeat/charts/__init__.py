"""Charts as plain values (curves, plots, maps), their colours and marks, and their picture in matplotlib.

Pages draw a description with plotly (see `geomfeat.report`). Results and papers' figures draw it with `draw` and
`figure_of`, which import matplotlib when they are called.
"""

from geomfeat.charts._draw import draw, figure_of
from geomfeat.charts.description import Curve, Heat, Plot
from geomfeat.charts.paper_style import style

__all__ = ["Curve", "Heat", "Plot", "draw", "figure_of", "style"]
