"""Participation ratio from products of distinct samples, or of samples of different groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry import participation_ratio_unbiased, participation_ratio_wishart
from geomfeat.geometry.dimension import distinct_samples
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal
from tests.reference import dimension as reference

SPECTRUM = torch.arange(1, 61, dtype=torch.float64) ** -0.775
TRUTH = float(SPECTRUM.sum() ** 2 / SPECTRUM.square().sum())


def correlated_runs(seed: int) -> Representation:
    """12 runs of 10 trials, correlated .5 within a run."""
    run = torch.arange(12).repeat_interleave(10)
    x = (normal(12, 60, seed=2 * seed)[run] + normal(120, 60, seed=2 * seed + 1)) / 2**0.5
    return Representation(x * SPECTRUM.sqrt(), groups=run)


def test_groups_equal_all_samples_of_different_groups() -> None:
    groups = torch.tensor([3, 3, 5, 1, 1, 2, 9, 9])
    x = normal(8, 3) + normal(10, 3, seed=1)[groups]
    expected = reference.participation_ratio_of_groups(x.numpy(), groups.numpy())
    assert participation_ratio_unbiased(x + 5, groups) == pytest.approx(expected, rel=1e-8)


def test_blocks_of_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = torch.arange(30) % 7
    x = normal(30, 5) + normal(7, 5, seed=1)[groups]
    whole = participation_ratio_unbiased(x, groups)
    monkeypatch.setattr(distinct_samples, "BLOCK", 4 * 30)  # four rows at once
    assert participation_ratio_unbiased(x, groups) == pytest.approx(whole, rel=1e-12)


def test_groups_may_be_names_and_none_may_be_missing() -> None:
    x, names = normal(8, 3), list("aabbccdd")
    by_number = participation_ratio_unbiased(x, torch.arange(8) // 2)
    assert participation_ratio_unbiased(x, names) == participation_ratio_unbiased(x, np.array(names)) == by_number
    with pytest.raises(BadInput, match="missing"):
        participation_ratio_unbiased(x, [None, *names[1:]])
    with pytest.raises(BadInput, match="7"):
        participation_ratio_unbiased(x, names[1:])


def test_every_sample_a_group_is_no_groups() -> None:
    x = normal(20, 6)
    assert participation_ratio_unbiased(x, torch.arange(20)) == pytest.approx(participation_ratio_unbiased(x), rel=1e-9)


def test_correlated_trials_of_a_run_leave_no_bias() -> None:
    found = [get("participation_ratio_corrected")(correlated_runs(seed)) for seed in range(20)]
    values, errors = (np.array([getattr(one, key) for one in found]) for key in ("value", "stderr"))
    assert abs(np.mean(values) - TRUTH) < 4 * values.std(ddof=1) / 20**0.5 + np.var(values) / TRUTH
    assert np.mean(np.abs(values - TRUTH) < 1.96 * errors) >= 0.8
    assert np.mean([participation_ratio_unbiased(correlated_runs(seed)) for seed in range(6)]) < 0.8 * TRUTH
    assert found[0].note == "error over 12 groups"


def test_rows_that_differ_in_their_gain_leave_no_bias_by_default() -> None:
    values, gaussian = [], []
    for seed in range(60):
        gain = torch.exp(0.5 * normal(120, 1, seed=500 + seed))
        x = gain * normal(120, 60, seed=seed) * SPECTRUM.sqrt()
        values.append(get("participation_ratio_corrected")(Representation(x)))
        gaussian.append(participation_ratio_wishart(x))
    plain = np.array([one.value for one in values])
    assert abs(plain.mean() - TRUTH) < 4 * plain.std(ddof=1) / 60**0.5 + plain.var() / TRUTH
    assert np.mean([abs(one.value - TRUTH) < 1.96 * one.stderr for one in values]) >= 0.85
    assert np.mean(gaussian) < 0.9 * TRUTH


def test_too_few_groups_are_named() -> None:
    with pytest.raises(BadInput, match="needs at least 4 groups of samples, got 3"):
        participation_ratio_unbiased(normal(20, 6), torch.arange(20) % 3)
    found = get("participation_ratio_corrected")(Representation(normal(20, 6), groups=torch.arange(20) % 3))
    assert "fewer than 4 groups: samples of a group are taken as independent" in found.note
    assert found.value == pytest.approx(participation_ratio_unbiased(normal(20, 6)))
