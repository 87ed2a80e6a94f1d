"""What several models have in common is found once, and named in few words."""

from __future__ import annotations

import numpy as np

from geomfeat.report.content.shared_parts import MOST_NAMES, alike, names_of, only, same_array
from geomfeat.report.content.study_view import views
from tests.report.synthetic import make_study


def test_models_are_grouped_by_equal_keys_in_their_order():
    several = views([make_study(name) for name in "abcd"])
    keys = {"a": 1, "b": 2, "c": 1, "d": None}
    groups = alike(several, lambda view: keys[view.name])
    assert [[view.name for view in group] for group in groups] == [["a", "c"], ["b"]]
    assert [only(group) for group in groups] == [None, 1]


def test_a_group_is_named_by_its_models_or_by_all():
    several = views([make_study(f"m{i}") for i in range(MOST_NAMES + 2)])
    assert names_of(several, several) == "all models"
    assert names_of(several[:1], several[:1]) == "m0"
    assert names_of(several[1:3], several) == "m1, m2"
    assert names_of(several[:-1], several) == "m0, m1, m2 and 1 more"


def test_equal_arrays_have_one_key_and_others_another():
    a = np.arange(6.0)
    assert same_array(a) == same_array(a.copy()) != same_array(a.reshape(2, 3))
    assert same_array(a) != same_array(np.nextafter(a, 9))
    assert same_array(None) is None
