"""The signal-to-noise ratio is that of its definition, whatever the number of trials, and noise adds nothing to it."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import torch

import geomfeat as gf
from geomfeat.numerics import stream


def test_it_is_the_ratio_of_variances_that_was_put_in() -> None:
    draws = stream(0, "signal")
    means = torch.randn(6, 200, generator=draws, dtype=torch.float64)
    truth = float(means.var(0).sum()) / (200 * 2.0**2)
    for each in (2, 30):  # with few trials too
        ratios = []
        for _ in range(20):
            shown = torch.arange(6).repeat_interleave(each)
            x = means[shown] + 2 * torch.randn(6 * each, 200, generator=draws, dtype=torch.float64)
            ratios.append(gf.Recording(x, shown.numpy()).signal_to_noise()["all units"])
        assert abs(np.mean(ratios) - truth) < 4 * np.std(ratios) / 20**0.5
        assert np.std(ratios) < 0.3 * truth


def test_what_a_run_adds_to_a_condition_is_noise() -> None:
    draws = stream(1, "runs")
    shown, run = torch.arange(4).repeat_interleave(10).repeat(8), np.repeat(np.arange(8), 40)
    ratios = {"runs": [], "none": []}
    for _ in range(20):
        shift = torch.randn(8, 4, 50, generator=draws, dtype=torch.float64)  # no condition differs on average
        x = shift[torch.from_numpy(run), shown] + torch.randn(320, 50, generator=draws, dtype=torch.float64)
        recording = gf.Recording(x, shown.numpy(), run=run)
        ratios["runs"].append(recording.signal_to_noise()["all units"])
        ratios["none"].append(recording.signal_to_noise(groups=None)["all units"])
    assert abs(np.mean(ratios["runs"])) < 4 * np.std(ratios["runs"]) / 20**0.5
    assert np.mean(ratios["none"]) > 0.03


def test_it_is_the_mean_over_pairs_of_trials_of_different_runs() -> None:
    draws = stream(2, "pairs")
    shown = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 0, 1, 2, 1])
    run = torch.tensor([0, 0, 1, 0, 1, 1, 0, 2, 2, 2, 1, 1])
    x = torch.randn(12, 5, generator=draws, dtype=torch.float64)

    def product_of(a: int, b: int) -> float:
        pairs = [
            (i, j) for i, j in product(range(12), range(12)) if shown[i] == a and shown[j] == b and run[i] != run[j]
        ]
        return float(np.mean([float(centred[i] @ centred[j]) for i, j in pairs]))

    centred = x - x.mean(0)
    apart = np.mean([(product_of(a, a) + product_of(b, b)) / 2 - product_of(a, b) for a, b in ((0, 1), (0, 2), (1, 2))])
    noise = np.mean([float(centred[shown == c].square().sum(1).mean()) - product_of(c, c) for c in range(3)])
    found = gf.Recording(x, shown.numpy(), run=run.numpy()).signal_to_noise()["all units"]
    assert abs(found - apart / noise) < 1e-12


def test_it_is_not_known_of_conditions_in_one_run_each() -> None:
    x = torch.randn(8, 3, generator=stream(3, "one run"))
    found = gf.Recording(x, np.array(list("aaaabbbb")), run=np.repeat([0, 1], 4)).signal_to_noise()
    assert math.isnan(found["all units"])
