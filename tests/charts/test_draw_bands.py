"""Bands of errors and bars of significant times, in both renderers."""

from __future__ import annotations

import matplotlib.collections
import pytest
from matplotlib.figure import Figure

from geomfeat.charts import Curve, Plot, draw
from geomfeat.charts.theme import colour
from geomfeat.report.plotly.charts import curves_panel

PLOT = Plot(
    "t", "time (s)", "y",
    [Curve("a", [0.0, 0.1, 0.2], [1.0, 2.0, 3.0], [0.1, 0.2, 0.3], "band", bars=[(0.1, 0.2)]),
     Curve("b", [0.0, 0.1, 0.2], [2.0, 2.0, 2.0], None, "band", bars=[(0.0, 0.0)])],
)  # fmt: skip


def test_matplotlib_draws_the_band_and_a_bar_for_each_curve() -> None:
    ax = draw(PLOT, Figure().subplots())
    [band] = [c for c in ax.collections if isinstance(c, matplotlib.collections.PolyCollection)]
    y = band.get_paths()[0].vertices[:, 1]
    assert (y.min(), y.max()) == pytest.approx((0.9, 3.3))
    bars = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert [tuple(bar.get_xdata()) for bar in bars] == [pytest.approx((0.05, 0.25)), pytest.approx((-0.05, 0.05))]
    assert bars[0].get_ydata()[0] < bars[1].get_ydata()[0]
    assert [bar.get_color() for bar in bars] == [colour(0), colour(1)]


def test_plotly_draws_the_same() -> None:
    panel = curves_panel(PLOT, 3)
    band, line, other = panel.data
    assert band["y"] == pytest.approx([1.1, 2.2, 3.3, 2.7, 1.8, 0.9])
    assert line["y"] == [1.0, 2.0, 3.0]
    assert "error_y" not in line
    assert other["name"] == "b"
    assert [(s["x0"], s["x1"]) for s in panel.layout["shapes"]] == [
        pytest.approx((0.05, 0.25)), pytest.approx((-0.05, 0.05))
    ]  # fmt: skip
    assert panel.model == 3
