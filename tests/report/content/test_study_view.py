"""Depth axes, thinning and clipping."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from hypothesis import given, settings, strategies as st

from geomfeat.registry import available
from geomfeat.report.content.quantity_labels import CATALOGUE, ELSEWHERE
from geomfeat.report.content.study_view import clipped, depth_axis, thinned, views
from tests.report.synthetic import make_study


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(2, 50))
def test_thinned_keeps_the_ends_and_the_limit(n, most):
    kept = thinned(n, most)
    assert len(kept) == min(n, most)
    assert kept == sorted(set(kept))
    if n:
        assert (kept[0], kept[-1]) == (0, n - 1)


@settings(deadline=None)
@given(st.text(max_size=40), st.integers(3, 30))
def test_clipped_is_short_and_keeps_short_names(name, longest):
    assert len(clipped(name, longest)) <= longest
    assert clipped(name, 40) == name


def test_models_of_one_shape_share_an_axis_of_names():
    axis = depth_axis(views([make_study("a"), make_study("b")]))
    assert (axis.kind, axis.labels[0], axis.ticks) == ("name", "layers.0", (1, 2, 3, 4, 5, 6))


def test_two_kinds_of_models_of_one_depth_have_both_names_at_each_tick():
    one, other = make_study("a"), make_study("b", layers=["layers.0", *"vwxyz"])
    axis = depth_axis(views([one, other, replace(one, name="c")]))
    assert (axis.kind, axis.labels[:2]) == ("number", ("layers.0", "layers.1\nv"))


def test_many_kinds_of_models_of_one_depth_share_numbers():
    axis = depth_axis(views([make_study("a"), *(make_study(name, layers=list(name)) for name in ("uvwxyz", "ghijkl"))]))
    assert (axis.kind, axis.labels) == ("number", ("1", "2", "3", "4", "5", "6"))
    deep = [make_study("a", layers=9), make_study("b", layers=list("qrstuvwxy"))]
    assert depth_axis(views(deep)).labels[0] == "1"


def test_models_of_other_depth_share_the_share_of_the_depth():
    several = views([make_study("a", layers=3), make_study("b", layers=5)])
    axis = depth_axis(several)
    assert [axis.position(several[0], layer) for layer in several[0].layers] == [0, 50, 100]
    assert [axis.position(several[1], layer) for layer in several[1].layers] == [0, 25, 50, 75, 100]


def test_a_good_number_wins_over_a_failed_one_of_the_same_place():
    study = make_study()
    table = study.table
    row = table[(table.measure == "two_nn") & (table["at"] == "init")].iloc[[0]]
    both = pd.concat([row.assign(ok=False, value=float("nan"), note="failed once"), table], ignore_index=True)
    value = views(replace(study, table=both))[0].at("init", "two_nn", "two_nn")[row.layer.item()]
    assert (value.ok, value.value) == (True, row.value.item())


def test_every_registered_quantity_of_a_layer_has_a_plain_name():
    known = {(e.measure, e.quantity) for e in CATALOGUE} | ELSEWHERE
    registered = {(m.name, q) for m in available() if m.scope != "kernels" for q in m.quantities}
    assert registered <= known
