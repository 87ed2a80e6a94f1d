"""Controls beside every number of a capacity, in its text and its table."""

from __future__ import annotations

import torch

from geomfeat.geometry.manifolds import capacity, capacity_with_controls, noise_control, shuffled_control
from tests.geometry.clouds import normal


def test_every_number_has_its_controls_from_the_same_draws():
    x = (4 * normal(3, 1, 30, seed=1) + normal(3, 8, 30, seed=2)).flatten(0, 1)
    labels, groups = torch.arange(3).repeat_interleave(8), torch.arange(24) % 4
    found = capacity_with_controls(x, labels, groups=groups, n_draws=40, seed=3, center="global")
    plain = capacity(x, labels, groups=groups, n_draws=40, seed=3, center="global")
    assert (found.capacity, found.capacity_se) == (plain.capacity, plain.capacity_se)
    for word, control in (("shuffled", shuffled_control), ("noise", noise_control)):
        direct = control(x, labels, n_draws=40, seed=3, center="global")
        for name in ("capacity", "dimension", "radius", "center_alignment", "axis_alignment"):
            assert found.controls[word][name] == getattr(direct, name)
    frame = found.to_frame().set_index("quantity")
    assert frame.loc["radius", "noise"] == found.controls["noise"]["radius"]
    assert f"; shuffled {found.controls['shuffled']['capacity']:.3g}; noise " in str(found)
    assert "shuffled" not in str(plain)
    assert "shuffled" not in plain.to_frame()


def test_draws_and_targets_are_taken_as_capacity_takes_them():
    x = 4 * normal(3, 1, 10, seed=1) + normal(3, 8, 10, seed=2)
    draws = (normal(30, 10, seed=5), torch.ones(30, 3).double())
    assert capacity_with_controls(x, draws=draws).n_draws == 30
    found = capacity_with_controls(x, n_draws=20, target_se=(0.2, 60))
    assert found.controls["shuffled"]["capacity"] == shuffled_control(x, n_draws=found.n_draws).capacity
