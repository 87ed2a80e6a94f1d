"""What a study will measure is decided, and refused, before any work."""

from __future__ import annotations

import pytest

from geomfeat.errors import BadInput
from geomfeat.registry import available
from geomfeat.study.measure_selection import SCOPES, make_plan, unmet

EVERYTHING = {"labels", "outputs", "init", "gradients", "course"}


def test_by_default_all_measures_run_each_in_one_place() -> None:
    plan = make_plan(None, EVERYTHING)
    placed = [m.name for group in (plan.layer, plan.pairs, plan.changes, plan.network, plan.series) for m in group]
    assert sorted(placed) == sorted(m.name for m in available() if m.scope in SCOPES and m.by_default)
    assert set(plan.left_out) == {m.name for m in available() if not m.by_default}
    assert not plan.refused


def test_a_control_runs_when_it_is_asked_for() -> None:
    assert "runs only when asked for" in make_plan(None, EVERYTHING).left_out["capacity_shuffled"]
    assert make_plan(["capacity_shuffled"], EVERYTHING).names == ["capacity_shuffled"]


def test_a_measure_of_change_is_not_paired_with_other_layers() -> None:
    plan = make_plan(["representation_change", "cka_linear_unbiased"], EVERYTHING)
    assert [m.name for m in plan.changes] == ["representation_change"]
    assert [m.name for m in plan.pairs] == ["cka_linear_unbiased"]


def test_what_cannot_run_is_left_out_with_the_reason() -> None:
    plan = make_plan(None, {"outputs", "gradients"})
    assert "pass labels=" in plan.left_out["capacity"]
    assert "pass initial=" in plan.left_out["kernel_distance"]
    assert not plan.refused
    assert "capacity" not in plan.names


def test_what_was_asked_for_by_name_and_cannot_run_is_kept_to_be_reported() -> None:
    plan = make_plan(["capacity", "stable_rank"], set())
    assert [(m.name, "labels=" in why) for m, why in plan.refused] == [("capacity", True)]
    assert [m.name for m in plan.layer] == ["stable_rank"]
    assert plan.names == ["capacity", "stable_rank"]


def test_every_diagnostic_of_the_network_needs_the_initial_one() -> None:
    assert all(unmet(m, EVERYTHING - {"init"}) for m in available(scope="network"))


def test_every_diagnostic_over_time_needs_three_steps() -> None:
    assert available(scope="series")
    assert all("three or more snapshots" in unmet(m, EVERYTHING - {"course"}) for m in available(scope="series"))
    assert not any(unmet(m, EVERYTHING) for m in available(scope="series"))


def test_an_unknown_measure_is_refused_with_near_names() -> None:
    with pytest.raises(BadInput, match="no measure 'stable_rnk'; near: stable_rank"):
        make_plan(["two_nn", "stable_rnk"], EVERYTHING)


def test_asking_for_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match=r"measures=\[\] is empty"):
        make_plan([], EVERYTHING)


def test_one_name_is_one_measure() -> None:
    assert make_plan("two_nn", set()).names == ["two_nn"]
