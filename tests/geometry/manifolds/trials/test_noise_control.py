"""The control of noise alone: no signal is left in it, and it does not depend on the signal that was there."""

from __future__ import annotations

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import capacity, noise_control
from tests.geometry.clouds import normal


def test_the_control_does_not_depend_on_the_signal():
    noise = normal(4, 8, 40, seed=1)
    plain = noise_control(noise + 1, n_draws=200)
    moved = 5 * normal(4, 1, 40, seed=2)
    moved = moved - moved.mean(0)
    signal = noise_control(noise + 1 + moved, n_draws=200)
    assert signal.capacity == pytest.approx(plain.capacity)
    assert signal.radius == pytest.approx(plain.radius)
    assert capacity(noise + 1 + moved, n_draws=200, resample=None).capacity > 1.3 * signal.capacity


def test_classes_without_signal_read_their_control():
    noise = 1 + normal(4, 10, 40, seed=3)
    found, control = capacity(noise, resample=None), noise_control(noise)
    assert abs(found.capacity - control.capacity) < 4 * control.capacity_se
    assert abs(found.radius - control.radius) < 5 * control.radius_se


def test_options_are_those_of_capacity_and_single_points_are_refused():
    x, labels = normal(24, 6, seed=4), torch.arange(24) % 3
    found = noise_control(x, labels, center="global", n_draws=20, dichotomies="balanced")
    assert (found.center, found.n_draws, found.dichotomies, found.errors_over) == ("global", 20, "balanced", "draws")
    with pytest.raises(BadInput, match="class 2 has one point"):
        noise_control(x[:21], [0, 1] * 10 + [2])
