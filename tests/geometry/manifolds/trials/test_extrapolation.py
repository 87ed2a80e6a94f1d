"""Extrapolation to no noise: exact for polynomials, and the whole against a slow reference."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from geomfeat.geometry.manifolds.random_directions import random_draws
from geomfeat.geometry.manifolds.trials.extrapolation import (
    CORRECTED,
    LEVELS,
    combined,
    extrapolated,
    resampled_over_trials,
    weights,
)
from geomfeat.geometry.manifolds.trials.repeated_trials import repeated_trials
from tests.geometry.clouds import normal
from tests.reference import trial_noise as reference

P, M, K, N = 4, 4, 9, 12


def noisy(seed: int = 0) -> torch.Tensor:
    return 2 * normal(P, 1, 1, N, seed=seed) + normal(P, M, 1, N, seed=1 + seed) + normal(P, M, K, N, seed=2 + seed)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.floats(1.5, 3), st.floats(3.5, 9))
def test_a_polynomial_is_extrapolated_exactly(c: list[float], second: float, third: float):
    levels = [1.0, second, third]
    rows = [[c[0] + c[1] * x + c[2] * x**2 + off for off in (-1.0, 1.0)] for x in levels]
    assert combined(rows, weights(levels)) == pytest.approx(c[0], abs=1e-9)


def test_numbers_are_those_of_the_definition():
    x = noisy()
    trials, draws = repeated_trials(x, None, None), random_draws(40, N, P, "random", 0)
    found = extrapolated(trials, draws, 3)
    blocks = [[trials.blocks(n, 3, turn).reshape(P, M, K).numpy() for turn in range(turns)] for n, turns in LEVELS]
    wanted = reference.corrected(x.numpy(), blocks, (draws.t, draws.y), CORRECTED)
    for name in CORRECTED:
        assert found.values[name] == pytest.approx(wanted[name], rel=1e-7)


def test_errors_over_trials_are_those_of_the_numbers_without_each_part():
    """The first part left out by hand: the blocks of all trials, without it."""
    trials, draws = repeated_trials(noisy(4), None, None), random_draws(30, N, P, "random", 0)
    found = resampled_over_trials(trials, draws, 0)
    assert found.said == f"{P * M * K} trials"
    assert len(found.sizes) == 20
    kept = torch.arange(P * M * K) % 20 != 0
    x = trials.x.reshape(P, M, K, N).numpy()
    for i, rows in enumerate((slice(0, 15), slice(15, 30))):
        half = (draws.t[rows], draws.y[rows])
        halves = [trials.blocks(2, 0, turn).reshape(P, M, K).numpy() for turn in range(LEVELS[1][1])]
        whole = reference.corrected(x, [[0 * halves[0]], halves], half, ("capacity", "radius"))
        assert float(found.values["capacity"][0, i]) == pytest.approx(whole["capacity"], rel=1e-7)
        assert float(found.values["radius"][0, i]) == pytest.approx(whole["radius"], rel=1e-7)
    again = extrapolated(trials.take(kept), draws, 0)
    mean = float(1 / (1 / found.values["capacity"][1]).mean())
    # Blocks drawn anew differ from those that lost a trial, within the noise of the blocks.
    assert mean == pytest.approx(again.values["capacity"], rel=0.1)
    assert mean != float(1 / (1 / found.values["capacity"][0]).mean())


def test_errors_over_trials_match_the_spread_over_new_trials():
    names = ("capacity", "radius", "center_alignment")
    x = 2 * normal(3, 1, 1, N, seed=0) + normal(3, M, 1, N, seed=1)
    draws = random_draws(64, N, 3, "random", 0)
    values, variances = [], torch.zeros(len(names))
    for seed in range(12):
        trials = repeated_trials(x + 1.5 * normal(3, M, 8, N, seed=100 + seed), None, None)
        values.append([extrapolated(trials, draws, seed).values[name] for name in names])
        if seed == 0:
            over = resampled_over_trials(trials, draws, seed)
            variances = torch.tensor([over.variance(name) for name in names])
    spread, said = torch.tensor(values).std(0), variances.sqrt()
    assert bool(((said > spread / 2) & (said < 2 * spread)).all()), (said, spread)
