"""The plane's areas are those of `regime_of`, and the scale shows interval, floor and bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from geomfeat.location.regimes import regime_of
from geomfeat.report.content.location_data import plane_ranges, regime_areas
from geomfeat.report.content.number_format import richness_text
from geomfeat.report.content.sentences import comparison
from geomfeat.report.content.study_view import views
from geomfeat.report.matplotlib import location as drawing_location
from geomfeat.report.plotly.location import demand_movement_plane, richness_scale
from tests.report import synthetic


def test_areas_agree_with_the_rule_everywhere():
    x, y = (-2.5, 2.0), (-2.75, 1.5)
    areas = {name: [Outline(p) for p in polygons] for name, polygons in regime_areas(x, y).items()}
    rng = np.random.default_rng(0)
    for r, m in rng.uniform((x[0], y[0]), (x[1], y[1]), (4000, 2)):
        inside = {name for name, outlines in areas.items() if any(o.contains_point((r, m)) for o in outlines)}
        assert inside == ({regime_of(r, m)} - {"transition"}), (r, m)


def test_every_layer_lies_inside_the_plane(gallery, trouble):
    for studies in (gallery, trouble, [synthetic.make_study(richness=3.0)], [synthetic.make_study(richness=-6.0)]):
        several = views(studies)
        (x0, x1), (y0, y1) = plane_ranges(several)
        for trace in demand_movement_plane(several).panels[0].data:
            assert all(x0 <= v <= x1 for v in trace["x"])
            assert all(y0 <= v <= y1 for v in trace["y"])


def test_plane_draws_every_layer_of_every_model_and_the_diagonal(gallery):
    data = demand_movement_plane(views(gallery)).panels[0].data
    assert data[0]["x"] == data[0]["y"]
    for i, study in enumerate(gallery):
        layers, whole = [t for t in data if t.get("meta") == {"model": i}]
        assert layers["x"] == study.location.layers["richness"].tolist()
        assert layers["y"] == study.location.layers["movement"].tolist()
        assert (whole["x"], whole["y"]) == ([study.location.richness], [study.location.movement])
        assert layers["marker"]["size"] == sorted(layers["marker"]["size"])


def test_scale_shows_interval_floor_and_bound(trouble):
    data = richness_scale(views(trouble)).panels[0].data
    where = trouble[0].location
    floor, point = data
    assert floor["x"] == [where.floor]
    assert point["marker"]["symbol"] == "triangle-left"
    assert point["error_x"]["array"] == pytest.approx([where.high - where.richness])
    assert point["error_x"]["arrayminus"] == pytest.approx([where.richness - where.low])


def test_nothing_to_draw_without_a_location():
    several = views(synthetic.make_study(located=False))
    assert richness_scale(several) is None
    assert demand_movement_plane(several) is None


def test_a_frozen_model_has_no_dot_and_says_so():
    study = synthetic.make_study(richness=0.3)
    layers = study.location.layers.assign(movement=-np.inf, excess=np.nan, regime="frozen")
    frozen = replace(study.location, movement=-np.inf, excess=np.nan, regime="frozen", layers=layers)
    several = views([replace(study, location=frozen, name="head only"), synthetic.make_study(richness=-1.0)])
    panel = richness_scale(several).panels[0]
    assert {trace["meta"]["model"] for trace in panel.data} == {1}
    assert any("frozen: no hidden feature moved" in mark["text"] for mark in panel.layout["annotations"])
    whole = [t for t in demand_movement_plane(several).panels[0].data if t.get("meta") == {"model": 0}]
    assert not np.isfinite([v for trace in whole for v in trace["y"]]).any()
    figure = drawing_location.richness_scale(several)
    marked = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "", None)]
    assert len(marked) == 1
    assert richness_text(frozen).endswith("if free to move")
    assert "Richness spans" not in comparison(several)
