"""Dimension of the signal as measures: stimuli from labels, runs from groups, errors over stimuli."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat import geometry
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


def recorded(seed: int, trials: int = 4, n: int = 60) -> Representation:
    """Signal in 8 of 30 directions; a noise that the trials of a run share, and one of their own."""
    signal = 1.5 * normal(n, 8, seed=seed) @ torch.eye(8, 30, dtype=torch.float64)
    of_run = normal(trials, 1, 30, seed=1000 + seed)
    x = signal + of_run + normal(trials, n, 30, seed=2000 + seed)
    run = torch.arange(trials).repeat_interleave(n)
    return Representation(x.flatten(0, 1), torch.arange(n).repeat(trials), groups=run)


def test_the_signal_is_found_with_its_error() -> None:
    found = [get("participation_ratio_of_trials")(recorded(seed)) for seed in range(16)]
    values, errors = (np.array([getattr(one, key) for one in found]) for key in ("value", "stderr"))
    assert abs(values.mean() - 8) < 4 * values.std(ddof=1) / 16**0.5 + values.var() / 8
    assert np.mean(np.abs(values - 8) < 1.96 * errors) >= 0.8
    assert found[0].note == "error over 60 stimuli"
    assert get("participation_ratio_corrected")(recorded(0).with_(groups=None)).value > 12


def test_complete_runs_are_paired_by_run() -> None:
    rep = recorded(1)
    expected = geometry.participation_ratio_of_trials(rep.x.reshape(4, 60, 30))
    order = torch.randperm(rep.n, generator=torch.Generator().manual_seed(0))
    assert get("participation_ratio_of_trials")(rep.take(order)).value == pytest.approx(expected, rel=1e-9)


def test_trials_of_a_run_are_averaged_and_single_ones_left_out() -> None:
    rep = recorded(2)
    one = rep.take(torch.arange(4 * 60 - 60 * 3 + 50))  # stimuli 0 to 49 in two runs, the others in one
    found = get("participation_ratio_of_trials")(one)
    assert found.note == "10 stimuli with a single group left out; error over 50 stimuli"
    twice = Representation(
        torch.cat([rep.x, rep.x + 0.5]), rep.labels.repeat(2), groups=rep.groups.repeat(2)
    )  # fmt: skip
    value = get("participation_ratio_of_trials")(rep).value
    assert get("participation_ratio_of_trials")(twice).value == pytest.approx(value, rel=1e-9)


def test_what_has_no_repeats_fails_with_the_remedy() -> None:
    rep = Representation(normal(20, 5), torch.arange(20))
    row = get("participation_ratio_of_trials").run(rep)["participation_ratio_of_trials"]
    assert not row.ok
    assert "0 stimuli have 2 trials" in row.note
    noise = get("participation_ratio_of_trials").run(Representation(normal(40, 5, seed=4), torch.arange(40) % 20))
    assert noise["participation_ratio_of_trials"].ok or "hardly any signal" in noise[
        "participation_ratio_of_trials"
    ].note  # fmt: skip


def test_the_spectrum_of_the_signal_takes_stimuli_and_runs() -> None:
    scales = torch.arange(1, 41, dtype=torch.float64) ** -0.5
    stimulus = torch.cat([torch.arange(150).repeat(2), torch.arange(75)])
    x = (normal(150, 40, seed=1) * scales)[stimulus] + 0.2 * normal(len(stimulus), 40, seed=2)
    found = get("cross_validated_spectrum")(Representation(x, stimulus), first=2, last=15)
    assert abs(found["exponent"].value - 1) < 4 * found["exponent"].stderr < 1
    assert "2 trials of every stimulus, 75 others left out; error over 150 stimuli" in found["exponent"].note
    run = torch.cat([torch.arange(2).repeat_interleave(150), torch.zeros(75, dtype=torch.long)])
    grouped = get("cross_validated_spectrum")(Representation(x, stimulus, groups=run), first=2, last=15)
    assert grouped["exponent"].note == "error over 150 stimuli"
