"""capacity_shuffled as a registered measure."""

from __future__ import annotations

import torch

from geomfeat.geometry.manifolds import shuffled_control
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal, simplices, spheres


def labelled(x: torch.Tensor) -> Representation:
    return Representation(x.reshape(-1, x.shape[2]), torch.arange(x.shape[0]).repeat_interleave(x.shape[1]))


def test_orthonormal_points_have_the_same_capacity_in_any_classes():
    found = get("capacity_shuffled").run(labelled(simplices(10, 4)), n_draws=200)["capacity"]
    assert abs(found.value - 0.5) < 4 * found.stderr


def test_every_quantity_is_the_function_s():
    rep = labelled(normal(4, 6, 12))
    found, direct = get("capacity_shuffled").run(rep, seed=2), shuffled_control(rep, n_draws=50, seed=2)
    assert {name: e.value for name, e in found.items()} == {name: getattr(direct, name) for name in found}


def test_separated_classes_lie_above_their_control():
    rep = labelled(spheres(5, 8, 30, 0.4, 4))
    true, control = (get(name).run(rep, n_draws=50)["capacity"] for name in ("capacity", "capacity_shuffled"))
    assert true.value > control.value + 4 * control.stderr


def test_single_points_leave_the_radius_undefined_with_a_reason():
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
