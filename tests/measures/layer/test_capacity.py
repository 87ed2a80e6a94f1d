"""capacity and its control as registered measures."""

from __future__ import annotations

import math

import pytest
import torch

from geomfeat import geometry
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal, segments, simplices, spheres


def labelled(x: torch.Tensor) -> Representation:
    return Representation(x.reshape(-1, x.shape[2]), torch.arange(x.shape[0]).repeat_interleave(x.shape[1]))


def test_known_capacities_within_their_errors():
    found = get("capacity").run(labelled(simplices(10, 4)), n_draws=300)["capacity"]
    assert abs(found.value - 0.5) < 4 * found.stderr
    found = get("capacity").run(labelled(segments(10, 1.0)), n_draws=300, seed=1)
    assert abs(found["capacity"].value - 1.0) < 4 * found["capacity"].stderr
    assert found["alignment_floor"].value == pytest.approx(math.sqrt(2 / (math.pi * 20)))
    assert found["alignment_floor"].stderr is None


def test_every_quantity_is_the_function_s():
    rep = labelled(normal(4, 6, 12))
    found, direct = get("capacity").run(rep, n_draws=60, seed=2), geometry.capacity(rep, n_draws=60, seed=2)
    for name, estimate in found.items():
        assert estimate.value == getattr(direct, name)


def test_single_points_have_a_capacity_but_no_radius():
    found = get("capacity").run(labelled(normal(10, 1, 30)), n_draws=200)
    assert abs(found["capacity"].value - 2) < 4 * found["capacity"].stderr
    assert "10 of 10 classes have a single point" in found["capacity"].note
    assert not found["radius"].ok
    assert "no anchor moves" in found["radius"].note


def test_classes_that_fill_the_layer_fail_with_the_reason():
    x = normal(3, 5, 4)
    found = get("capacity").run(labelled(torch.cat([x, -x], 1)), n_draws=30)
    assert found["frac_inside"].value == 1.0
    assert found["capacity"].ok
    assert all("every random direction lies inside its cone" in found[q].note for q in ("dimension", "axis_alignment"))


def test_bad_options_fail_the_row_with_the_message():
    found = get("capacity").run(labelled(normal(3, 5, 4)), dichotomies="some")
    assert all(not e.ok and "dichotomies='some'" in e.note for e in found.values())


def test_orthonormal_points_have_the_same_capacity_in_any_classes():
    found = get("capacity_shuffled").run(labelled(simplices(10, 4)), n_draws=200)["capacity"]
    assert abs(found.value - 0.5) < 4 * found.stderr


def test_every_quantity_of_the_control_is_the_function_s():
    rep = labelled(normal(4, 6, 12))
    found, direct = get("capacity_shuffled").run(rep, seed=2), geometry.shuffled_control(rep, n_draws=50, seed=2)
    assert {name: e.value for name, e in found.items()} == {name: getattr(direct, name) for name in found}


def test_separated_classes_lie_above_their_control():
    rep = labelled(spheres(5, 8, 30, 0.4, 4))
    true, control = (get(name).run(rep, n_draws=50)["capacity"] for name in ("capacity", "capacity_shuffled"))
    assert true.value > control.value + 4 * control.stderr


def test_single_points_leave_the_control_s_radius_undefined_with_a_reason():
    found = get("capacity_shuffled").run(labelled(normal(6, 1, 20)))["radius"]
    assert not found.ok
    assert "6 of 6 classes have a single point" in found.note


def test_shuffled_classes_that_fill_the_layer_fail_with_the_reason():
    found = get("capacity_shuffled").run(labelled(normal(3, 30, 4)))
    assert found["capacity"].ok
    assert not found["axis_alignment"].ok
    assert "fewer samples" in found["axis_alignment"].note


def test_copies_of_points_are_not_shuffled_apart():
    rep = labelled(spheres(4, 8, 30, 0.4, 4))
    twice = rep.take(torch.arange(rep.n).repeat(2))
    once, again = (get("capacity_shuffled").run(r, seed=1) for r in (rep, twice))
    assert {name: e.value for name, e in again.items()} == {name: e.value for name, e in once.items()}


def test_noise_alone_is_the_control_of_the_geometry() -> None:
    rep = labelled(normal(3, 6, 30) + 3 * normal(3, 1, 30, seed=1))
    found, direct = get("capacity_noise").run(rep, seed=2), geometry.noise_control(rep, n_draws=50, seed=2)
    for name in ("capacity", "dimension", "radius", "center_alignment", "axis_alignment", "center_axis_alignment"):
        assert found[name].value == getattr(direct, name)
        assert found[name].ok
    single = get("capacity_noise").run(labelled(normal(6, 1, 20)))["capacity"]
    assert not single.ok
    assert "one point, whose noise is not known" in single.note
