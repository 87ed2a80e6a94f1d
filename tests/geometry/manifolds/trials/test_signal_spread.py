"""Means with the spread of the signal: exact in many units, with the unbiased power, and nothing below 0."""

from __future__ import annotations

import pytest
import torch

from geomfeat.geometry.manifolds.trials.signal_spread import signal_power, with_signal_spread
from tests.geometry.clouds import normal

OWNER = torch.arange(3).repeat_interleave(5)


def test_power_of_the_signal_is_unbiased():
    x = normal(15, 8, seed=1)
    centered = x - x.reshape(3, 5, 8).mean(1)[OWNER]
    truth, found = float(centered.square().sum()), []
    for seed in range(400):
        power, measured = signal_power(x + 0.5 * normal(15, 8, seed=10 + seed), torch.full((15,), 2.0).double(), OWNER)
        found.append(power)
        assert measured > power
    values = torch.tensor(found)
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / 20


def test_noise_in_many_units_leaves_the_gram_matrix_of_the_signal():
    """Orthogonal to the signal, of equal length and to each other, noise is taken off exactly."""
    signal = torch.zeros(1, 15, 40, dtype=torch.float64)
    signal[0, :, :8] = normal(15, 8, seed=1)
    noisy = signal.clone()
    noisy[0, :, 10:25] += 0.7 * torch.eye(15, dtype=torch.float64)
    noise = torch.full((1, 15), 0.49, dtype=torch.float64)
    power, _ = signal_power(noisy[0], noise[0], OWNER)
    found = with_signal_spread(noisy, noise, OWNER, power)[0].reshape(3, 5, 40)
    wanted = signal[0].reshape(3, 5, 40)
    d, e = found - found.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    torch.testing.assert_close(d @ d.mT, e @ e.mT)
    torch.testing.assert_close(found.mean(1), noisy[0].reshape(3, 5, 40).mean(1))


@pytest.mark.parametrize("units", [3, 40])
def test_the_power_is_as_asked_and_no_signal_leaves_points(units: int):
    x = normal(2, 15, units, seed=3)
    noise = torch.full((2, 15), 0.3 * units, dtype=torch.float64)
    found = with_signal_spread(x, noise, OWNER, 7.5)
    d = found - found.reshape(2, 3, 5, units).mean(2)[:, OWNER]
    torch.testing.assert_close(d.square().sum((1, 2)), torch.full((2,), 7.5, dtype=torch.float64))
    for size, power in ((1, -1.0), (100, 7.5)):
        flat = with_signal_spread(x, size * noise, OWNER, power)
        torch.testing.assert_close(flat, x.reshape(2, 3, 5, units).mean(2)[:, OWNER])


def test_a_class_of_one_stimulus_stays_where_it_is():
    x = normal(1, 3, 6, seed=5)
    found = with_signal_spread(x, torch.ones(1, 3).double(), torch.tensor([0, 1, 1]), 2.0)
    torch.testing.assert_close(found[0, 0], x[0, 0])
