"""Capacities that say nothing of separability: marked, with the floor beside them, and left out of every comparison."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from torch import Tensor

from geomfeat.comparison.relations.capacity_stages import strategies
from geomfeat.comparison.relations.runs import trainings_of
from geomfeat.comparison.relations.trajectories import courses, trajectories
from geomfeat.geometry.manifolds import capacity, capacity_curve, capacity_difference, shuffled_control, what_changed
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR, at_floor
from geomfeat.measures.layer.capacity import estimates
from geomfeat.study.table import row, table_of
from tests.geometry.clouds import normal, spheres, subspaces

FIELDS = ("difference", "log_difference", "inverse_difference", "correlation", "gain")


def crowd(units: int, seed: int = 0) -> Tensor:
    """Four classes of sixty points that mean nothing."""
    return normal(4, 60, units, seed=seed)


@pytest.mark.parametrize(("points", "rank"), [(crowd(12), 12), (crowd(30)[:, :, :8], 8), (subspaces(3, 2), 6)])
def test_classes_that_fill_their_span_read_the_floor(points: Tensor, rank: int):
    found = capacity(points, n_draws=400)
    assert found.at_floor
    assert found.frac_inside == found.frac_nonseparable == 1
    assert found.capacity_floor == len(points) / rank
    assert abs(found.capacity - found.capacity_floor) < 4 * found.capacity_se
    assert found.capacity_faces == pytest.approx(found.capacity_floor)
    assert at_floor(found.notes[0])
    assert f"(at the floor {found.capacity_floor:.2g})" in str(found)


def test_labels_that_agree_do_not_hide_the_floor():
    """Features that are never negative let all classes stand on one side together: no separation is asked for there."""
    found = capacity(crowd(12).relu(), n_draws=200)
    assert found.frac_inside == pytest.approx(0.875)
    assert found.at_floor


@pytest.mark.parametrize("points", [spheres(6, 20, 60, 0.7, 4), normal(2, 2, 20), spheres(6, 8, 12, 0.7, 4)])
def test_what_can_be_separated_is_above_it(points: Tensor):
    found = capacity(points, n_draws=100)
    assert not found.at_floor
    assert not any(map(at_floor, found.notes))
    assert found.capacity > 1.02 * found.capacity_floor


def test_dead_units_and_low_rank_do_not_count_as_room():
    mixing = normal(5, 40, seed=3)
    wide = torch.cat([crowd(5) @ mixing, torch.zeros(4, 60, 10).double()], 2)
    for points in (wide, wide.float(), wide + 1e-14 * normal(4, 60, 50, seed=4)):
        assert capacity(points, n_draws=50).capacity_floor == 4 / 5
    few = normal(4, 3, 5, seed=5) @ mixing
    assert capacity(few.float(), n_draws=50).capacity_floor == 4 / 5


def test_no_difference_is_made_with_a_capacity_at_the_floor():
    low, high = capacity(crowd(12), n_draws=60), capacity(spheres(4, 60, 12, 0.3, 3) + 1, n_draws=60)
    assert not high.at_floor
    for found in (capacity_difference(low, high), capacity_difference(high, low), capacity_difference(low, low)):
        assert all(math.isnan(getattr(found, name)) for name in FIELDS)
        assert any(at_floor(note) for note in found.notes)
    assert math.isnan(what_changed(high, low).capacity)
    assert math.isfinite(what_changed(high, high).capacity)


def test_controls_and_curves_say_it_too():
    assert shuffled_control(crowd(12), n_draws=40).at_floor
    curve = capacity_curve(crowd(12), sizes=[2, 60], repeats=2, n_draws=40)
    assert [note for note in curve.notes if AT_FLOOR in note] == [
        "2 of 2 sub-samples with 60 points are at the floor: their capacity is P / rank and says nothing of "
        "separability"
    ]


def table(units: dict[str, int]) -> pd.DataFrame:
    """Rows of trainings whose layer has so many units at the end."""
    frames = []
    for name, last in units.items():
        rows = [
            row(quantity, value, at=at, layer="fc", measure="capacity")
            for at, n in (("init", 60), ("trained", last))
            for quantity, value in estimates(capacity(spheres(4, 60, n, 0.8, 4), n_draws=30)).items()
        ]
        frames.append(table_of(rows, run=name, seed=0, conditions={"eta": 0.1}, version="1"))
    return pd.concat(frames, ignore_index=True)


def test_tables_leave_it_out_of_courses_strategies_and_fits():
    made = table({"wide": 50, "narrow": 3})
    marked = made[made["note"].map(at_floor)]
    assert set(marked["run"]) == {"narrow"}
    assert {"capacity", "capacity_faces"} <= set(marked["quantity"])
    assert not {"capacity_floor", "frac_inside", "frac_nonseparable"} & set(marked["quantity"])
    path = trajectories(made, alpha=("capacity", "capacity", "fc")).set_index(["training", "step"])["alpha"]
    assert path.isna().tolist() == [False, False, False, True]
    assert dict(strategies(made, "fc")[["training", "strategy"]].to_numpy())["narrow"] == "cannot tell"
    assert dict(courses(made, "fc")[["training", "course"]].to_numpy())["narrow"] == "cannot tell"
    found = trainings_of(made)
    values = found.values[("capacity", "capacity", "fc", "trained")]
    assert values.isna().tolist() == [False, True]
    assert any(AT_FLOOR in note for note in found.notes)
    assert found.values[("capacity", "frac_inside", "fc", "trained")].notna().all()
