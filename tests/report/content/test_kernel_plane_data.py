"""The areas of the plane are those of the rule, and every mark and interval lies inside it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from geomfeat.location.regimes import LARGE_CHANGE, regime_of, regime_without_start
from geomfeat.location.result import KERNEL, Location
from geomfeat.report.content.kernel_plane_data import (
    area_names,
    drawn_at,
    kernel_areas,
    kernel_marks,
    kernel_plane_ranges,
    left_out_of_plane,
    on_scale_of_demand,
)
from geomfeat.report.content.study_view import View, views
from geomfeat.study import Study
from tests.report.synthetic import make_study

X, Y = (-2.0, 1.5), (-1.75, 1.5)


def in_area(x: float, y: float) -> set[str]:
    return {n for n, (across, along) in kernel_areas(X, Y).items()
            if across[0] <= x <= across[1] and along[0] <= y <= along[1]}  # fmt: skip


def with_kernel(study: Study, **kernel: float) -> list[View]:
    return views([replace(study, location=replace(study.location, **kernel))])


def test_areas_agree_with_the_rule_for_demands():
    for r, kappa in np.random.default_rng(0).uniform((X[0], Y[0]), (X[1], Y[1]), (2000, 2)):
        assert in_area(r, kappa) == {regime_without_start(r, False, -3.0, kappa)} - {"transition"}, (r, kappa)


def test_areas_agree_with_the_rule_where_all_happened_as_demanded():
    rng = np.random.default_rng(1)
    for r, kappa in rng.uniform((X[0], Y[0]), (X[1], Y[1]), (2000, 2)):
        word = regime_of(r, r, kappa, 0.2 * 10**kappa, 0.0)
        # Movement and measured change have thresholds of their own, which demand need not have crossed.
        apart = -0.3 < r <= 0 or -0.3 <= kappa <= -0.05
        assert apart or in_area(r, kappa) == {word} - {"transition"}, (r, kappa)
    assert math.log10(LARGE_CHANGE / 0.2) == pytest.approx(0.3, abs=0.002)


def test_names_stand_inside_their_areas():
    for name, (x, y, _) in area_names(X, Y).items():
        assert in_area(x, y) == {name} - {"transition"}


def test_a_mark_is_demand_and_what_happened_with_their_intervals(gallery):
    marks = kernel_marks(views(gallery))
    assert len(marks) == 3
    for mark, study in zip(marks, gallery, strict=True):
        where = study.location
        assert (mark.demand.x, mark.demand.y) == (where.richness, where.kernel_demand)
        assert mark.demand.across == (where.low, where.high)
        assert mark.demand.along == where.kernel_intervals["kernel_demand"]
        assert mark.happened.x == where.movement
        assert 0.2 * 10**mark.happened.y == pytest.approx(where.kernel_change)
        low, high = where.kernel_intervals["kernel_change"]
        assert mark.happened.along == pytest.approx((math.log10(low / 0.2), math.log10(high / 0.2)))
        assert mark.happened.across is None


def test_fresh_weights_show_no_mark_of_what_happened():
    (mark,) = kernel_marks(views(make_study(richness=-0.9, tier="reinitialised")))
    assert mark.happened is None
    assert mark.demand.known


def test_everything_is_inside_the_plane(gallery):
    far = make_study("far", 4.0)
    marks = kernel_marks(views([*gallery, far]))
    x, y = kernel_plane_ranges(marks)
    for mark in marks:
        for place in (mark.demand, mark.happened):
            assert all(x[0] < v < x[1] for v in (place.x, *(place.across or ())))
            assert all(y[0] < v < y[1] for v in (place.y, *(place.along or ())))


@pytest.mark.parametrize(
    ("kernel", "edges"),
    [
        ({"kernel_demand": -math.inf}, ("down", "")),
        ({"kernel_demand": -math.inf, "kernel_change": 0.0}, ("down", "down")),
        ({"richness": -math.inf}, ("left", "")),
        ({"kernel_demand": math.inf}, ("up", "")),
        ({"movement": math.inf}, ("", "right")),
    ],
)
def test_infinite_values_are_drawn_at_the_edge(kernel, edges):
    (mark,) = kernel_marks(with_kernel(make_study(), **kernel))
    x, y = kernel_plane_ranges([mark])
    for place, edge in zip((mark.demand, mark.happened), edges, strict=True):
        a, b, at = drawn_at(place, x, y)
        assert at == edge
        assert x[0] < a < x[1]
        assert y[0] < b < y[1]


def test_who_is_left_out_and_why(gallery):
    old = replace(gallery[0], name="old", location=replace(gallery[0].location, **dict.fromkeys(KERNEL, math.nan)))
    frozen = replace(
        gallery[1], name="head", location=replace(gallery[1].location, movement=-math.inf, regime="frozen")
    )
    several = views([old, frozen, gallery[2]])
    assert [mark.view.name for mark in kernel_marks(several)] == ["mlp rich"]
    said = left_out_of_plane(several)
    assert "none of its hidden features moved: head." in said
    assert "no kernel demand is known: old." in said
    assert left_out_of_plane(views(gallery)) == ""


def test_a_location_saved_without_the_kernel_is_read_and_left_out():
    entries = json.loads(make_study().location.to_json())
    for name in (*KERNEL, "kernel_intervals", "metric", "tangent"):
        del entries[name]
    where = Location.from_json(json.dumps(entries))
    assert kernel_marks(views(replace(make_study(), location=where))) == []


def test_the_measured_change_on_the_scale_of_demand():
    assert on_scale_of_demand(0.2) == 0
    assert on_scale_of_demand(0.0) == -math.inf
    assert math.isnan(on_scale_of_demand(math.nan))
