"""The noise-corrected participation ratio against all stimuli and trials, and known signals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat import geometry
from geomfeat.errors import BadInput
from tests.geometry.clouds import normal
from tests.reference import dimension as reference


@pytest.mark.parametrize(("trials", "n", "d"), [(2, 5, 3), (3, 5, 2)])
def test_ratio_equals_all_stimuli_and_trials(trials: int, n: int, d: int):
    x = normal(trials, n, d) + 2 * normal(1, n, d, seed=1)
    expected = reference.participation_ratio_of_trials(x.numpy())
    assert geometry.participation_ratio_of_trials(x) == pytest.approx(expected, rel=1e-9)


def test_unequal_numbers_of_trials_equal_all_pairs_of_trials():
    stimulus = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4])
    x = normal(12, 4) + 2 * normal(5, 4, seed=1)[stimulus]
    x -= x.mean(0)
    expected = reference.participation_ratio_of_unequal_trials(x.numpy(), stimulus.numpy())
    assert geometry.participation_ratio_of_unequal_trials(x, stimulus) == pytest.approx(expected, rel=1e-9)


def test_unequal_numbers_of_trials_leave_no_bias():
    stimulus = torch.cat([torch.arange(80), torch.arange(80), torch.arange(0, 80, 2)])
    values = []
    for seed in range(40):
        signal = normal(80, 10, seed=seed) @ torch.eye(10, 40, dtype=torch.float64)
        x = signal[stimulus] + normal(len(stimulus), 40, seed=1000 + seed)
        values.append(geometry.participation_ratio_of_unequal_trials(x, stimulus))
    error = 4 * np.std(values, ddof=1) / 40**0.5 + np.var(values) / 10
    assert abs(np.mean(values) - 10) < error < 2


def test_trials_without_noise_give_the_unbiased_ratio():
    x = normal(20, 6)
    found = geometry.participation_ratio_of_trials(x.expand(3, 20, 6))
    assert found == pytest.approx(geometry.participation_ratio_unbiased(x), rel=1e-9)


def test_noise_and_few_stimuli_leave_no_bias():
    # 10 directions of signal and 40 of noise of the same variance: averages of trials read far more.
    values, plain = [], []
    for seed in range(60):
        signal = normal(80, 10, seed=seed) @ torch.eye(10, 40, dtype=torch.float64)
        x = signal + normal(4, 80, 40, seed=1000 + seed)
        values.append(geometry.participation_ratio_of_trials(x))
        plain.append(geometry.participation_ratio_wishart(x.mean(0)))
    # The ratio of two unbiased numbers keeps a bias of second order, about var / mean.
    error = 4 * np.std(values, ddof=1) / 60**0.5 + np.var(values) / 10
    assert abs(np.mean(values) - 10) < error < 1
    assert np.mean(plain) > 20


def test_scale_rotation_and_shift_do_not_matter():
    x = normal(3, 12, 5) + 2 * normal(1, 12, 5, seed=1)
    turn = torch.linalg.qr(normal(5, 5, seed=2))[0]
    expected = geometry.participation_ratio_of_trials(x)
    assert geometry.participation_ratio_of_trials(1e5 * x @ turn + 3) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (normal(1, 10, 3), "1 trials of 10 stimuli"),
        (normal(3, 3, 3), "3 trials of 3 stimuli"),
        (torch.full((3, 6, 2), 0.1), "are equal"),
    ],
)
def test_bad_trials_are_named(x: torch.Tensor, message: str):
    with pytest.raises(BadInput, match=message):
        geometry.participation_ratio_of_trials(x)


@pytest.mark.parametrize(
    ("stimulus", "message"),
    [
        ([0, 0, 1, 1, 2, 2, 3, 4], "5 stimuli, of 1 trials or more"),
        ([0, 0, 0, 1, 1, 1, 2, 2], "3 stimuli, of 2 trials or more"),
        ([0, 0, 1, 1, 2, 2, 3], "stimulus"),
    ],
)
def test_stimuli_without_repeats_are_named(stimulus: list[int], message: str):
    with pytest.raises(BadInput, match=message):
        geometry.participation_ratio_of_unequal_trials(normal(8, 3), stimulus)
