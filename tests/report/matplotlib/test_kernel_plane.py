"""The printed plane of features and kernel has the marks, areas and names of the interactive one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from matplotlib.colors import to_hex

from geomfeat.charts import theme as look
from geomfeat.errors import BadInput
from geomfeat.location.regimes import FEATURES_ONLY, KERNEL_ONLY
from geomfeat.location.result import KERNEL
from geomfeat.report import figures
from geomfeat.report.content.study_view import views
from geomfeat.report.matplotlib.kernel_plane import features_kernel_plane
from geomfeat.report.plotly.kernel_plane import features_kernel_plane as interactive
from tests.report import synthetic

AREAS = ("lazy", "rich", FEATURES_ONLY, KERNEL_ONLY)


def marks_of(axes):
    return [line for line in axes.lines if line.get_marker() not in ("None", "", None)]


def test_both_renderers_draw_the_same_points_and_ranges(gallery):
    (axes,) = features_kernel_plane(views(gallery)).axes
    panel = interactive(views(gallery)).panels[0]
    drawn = {(float(m.get_xdata()[0]), float(m.get_ydata()[0])) for m in marks_of(axes)}
    assert drawn == {(t["x"][0], t["y"][0]) for t in panel.data if t["mode"] == "markers"}
    assert axes.get_xlim() == tuple(panel.layout["xaxis"]["range"])
    assert axes.get_ylim() == tuple(panel.layout["yaxis"]["range"])


def test_every_area_has_its_tint_and_name(gallery):
    (axes,) = features_kernel_plane(views(gallery)).axes
    assert {to_hex(patch.get_facecolor()) for patch in axes.patches} == {look.tint(name) for name in AREAS}
    assert {text.get_text().replace("\n", " ") for text in axes.texts} == {*AREAS, "transition"}


def test_an_infinite_demand_points_to_the_edge():
    study = synthetic.make_study()
    fixed = replace(study, location=replace(study.location, kernel_demand=-math.inf))
    (axes,) = features_kernel_plane(views(fixed)).axes
    assert sorted(mark.get_marker() for mark in marks_of(axes)) == sorted(["v", look.mark(0)])
    assert all(axes.get_ylim()[0] < mark.get_ydata()[0] for mark in marks_of(axes))


def test_without_a_kernel_demand_there_is_no_such_figure():
    study = synthetic.make_study()
    old = replace(study, location=replace(study.location, **dict.fromkeys(KERNEL, math.nan)))
    with pytest.raises(BadInput, match="no numbers for 'features_kernel_plane'; they can be drawn as: richness_scale"):
        figures.features_kernel_plane(old)
