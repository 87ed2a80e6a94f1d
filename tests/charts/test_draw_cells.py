"""Maps show every cell, of a single row too, and axes of counts have no ticks between them."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from geomfeat.charts import Curve, Heat, Plot, draw
from geomfeat.charts.theme import ON_DARK, ON_LIGHT


def test_a_map_of_one_row_has_cells_of_some_height() -> None:
    ax = draw(Heat("t", "x", "y", [0.0, 1.0, 3.0], [2.0], [[1.0, 2.0, 3.0]], "v"), Figure().subplots())
    [mesh] = [c for c in ax.collections if isinstance(c, QuadMesh)]
    assert np.array(mesh.get_coordinates())[:, :, 0].tolist() == [[-0.5, 0.5, 2.0, 4.0]] * 2
    assert np.array(mesh.get_coordinates())[:, 0, 1].tolist() == [1.5, 2.5]
    assert ax.get_ylim() == (1.5, 2.5)


def test_lines_can_be_seen_on_the_light_middle_of_a_diverging_map() -> None:
    line = [Curve("", [0.0, 1.0], [0.0, 1.0])]
    for centred, ink in ((True, ON_LIGHT), (False, ON_DARK)):
        heat = Heat("t", "x", "y", [0.0, 1.0], [0.0, 1.0], [[-1.0, 0.0], [0.0, 1.0]], "v", line, centered=centred)
        assert [drawn.get_color() for drawn in draw(heat, Figure().subplots()).lines] == [ink]


def test_counts_have_whole_ticks_and_other_numbers_do_not() -> None:
    for x, whole in (([1, 2, 3], True), ([1.0, 1.5, 2.0], False)):
        ax = draw(Plot("t", "rank", "y", [Curve("", x, [1.0, 2.0, 3.0])]), Figure().subplots())
        assert all(float(tick).is_integer() for tick in ax.get_xticks()) is whole
