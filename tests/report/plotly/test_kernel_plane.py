"""The interactive plane of features and kernel draws every model twice: what was demanded, and what happened."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from geomfeat.location.regimes import FEATURES_ONLY, regime_of, regime_without_start
from geomfeat.location.result import KERNEL
from geomfeat.report.content.study_view import views
from geomfeat.report.pages.frame import spec_json
from geomfeat.report.plotly.kernel_plane import features_kernel_plane
from tests.report import synthetic


def test_demand_is_filled_and_what_happened_is_open_and_joined_to_it(gallery):
    (panel,) = features_kernel_plane(views(gallery)).panels
    for i, study in enumerate(gallery):
        where = study.location
        line, happened, demand = [t for t in panel.data if t["meta"] == {"model": i}]
        assert (demand["x"], demand["y"]) == ([where.richness], [where.kernel_demand])
        assert happened["x"] == [where.movement]
        assert 0.2 * 10 ** happened["y"][0] == pytest.approx(where.kernel_change)
        assert line["x"] == [where.richness, where.movement]
        assert happened["marker"]["symbol"] == f"{demand['marker']['symbol']}-open"
        assert happened["marker"]["size"] < demand["marker"]["size"]
        low, high = where.kernel_intervals["kernel_demand"]
        assert demand["error_y"]["array"] == pytest.approx([high - where.kernel_demand])
        assert demand["error_y"]["arrayminus"] == pytest.approx([where.kernel_demand - low])
    go.Figure(json.loads(spec_json(panel)))


def test_areas_lie_below_the_marks_and_are_named(gallery):
    layout = features_kernel_plane(views(gallery)).panels[0].layout
    assert {shape["layer"] for shape in layout["shapes"]} == {"below"}
    assert [shape["type"] for shape in layout["shapes"]] == ["rect"] * 5 + ["line"] * 2
    # Plotly draws a shape that spans "paper" in one direction under all that are placed by both axes.
    assert all((shape["xref"], shape["yref"]) == ("x", "y") for shape in layout["shapes"])
    moved, rests = layout["shapes"][5]["x0"], layout["shapes"][6]["y0"]
    for above, word in ((-0.01, "lazy"), (0.01, "transition")):
        assert regime_of(-0.7, -0.7, -0.9, 0.2 * 10 ** (rests + above), 0.0) == word
    assert regime_of(-0.4, moved - 0.01, -0.9, 0.05, 0.0) == "transition"
    assert regime_of(-0.4, moved + 0.01, -0.9, 0.05, 0.0) == FEATURES_ONLY
    assert regime_of(-0.4, moved - 0.01, 0.9, 0.9, 0.0) == "rich"
    names = {
        note["text"].removeprefix("<b>").removesuffix("</b>").replace(",<br>", ", ") for note in layout["annotations"]
    }
    corners = [(r, k) for r in (-1.0, -0.2, 0.5) for k in (-1.0, 0.0, 1.0)]
    assert names == {regime_without_start(r, False, -3.0, k) for r, k in corners}


def test_bounds_and_infinite_values_have_marks_that_point(trouble):
    (fresh,) = features_kernel_plane(views(trouble)).panels[0].data
    assert fresh["marker"]["symbol"] == "triangle-left"
    study = synthetic.make_study()
    fixed = replace(study, location=replace(study.location, kernel_demand=-math.inf, kernel_change=0.0))
    figure = features_kernel_plane(views(fixed))
    _, happened, demand = figure.panels[0].data
    assert demand["marker"]["symbol"] == "triangle-down"
    assert happened["marker"]["symbol"] == "triangle-down-open"
    assert demand["error_y"] == {"visible": False}
    assert "−∞" in demand["customdata"][0][3].replace("-", "−")
    go.Figure(json.loads(spec_json(figure.panels[0])))


def test_no_figure_without_a_kernel_demand_and_a_note_for_who_is_left_out(gallery):
    old = replace(gallery[0], name="old", location=replace(gallery[0].location, **dict.fromkeys(KERNEL, math.nan)))
    assert features_kernel_plane(views(old)) is None
    assert features_kernel_plane(views(synthetic.make_study(located=False))) is None
    figure = features_kernel_plane(views([old, gallery[2]]))
    assert "old" in figure.note
    assert [row[0].text for row in figure.tables[0].rows] == ["old", "mlp rich"]
