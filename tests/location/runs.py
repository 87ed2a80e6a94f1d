"""Runs over time whose regime is known from how they were set up, for tests of diagnostics over time."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from geomfeat.data._load_data import load_data
from geomfeat.models.mlp import mlp
from geomfeat.regimes.grokking import modular_addition, train_with_decay
from geomfeat.regimes.training import Trained, TrainOptions, train_at_gamma
from geomfeat.snapshots import SnapshotSeries

LAZY_GAMMA, RICH_GAMMA = 0.02, 10.0


@cache
def parts() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(training inputs, labels), (test inputs, labels): digits as vectors."""
    train, test = load_data("digits", split="train", n=80), load_data("digits", split="test", n=100)
    assert train.labels is not None
    assert test.labels is not None
    return (train.inputs.flatten(1), train.labels), (test.inputs.flatten(1), test.labels)


@cache
def at_gamma(gamma: float, steps: int = 300) -> Trained:
    """A small network on digits at a chosen richness, its checkpoints at log-spaced steps."""
    x, y = parts()[0]
    return train_at_gamma(
        mlp(64, (48,), 10, parameterization="ntk", seed=0),
        x,
        y,
        gamma=gamma,
        max_steps=steps,
        options=TrainOptions(snapshot_steps="log", dtype=torch.float64),
    )


def digits_series(gamma: float, **fields) -> SnapshotSeries:
    """The run of `at_gamma` with its data."""
    train, test = parts()
    given = {"test": test, "loss": "mse", "gamma": gamma} | fields
    return SnapshotSeries(at_gamma(gamma).snapshots_list, *train, **given)


@cache
def grokking_series() -> SnapshotSeries:
    """Sums modulo 23 from a large start with weight decay: first lazy, then rich, and the test samples wait."""
    task = modular_addition(23, seed=0)
    run = train_with_decay(task, width=96, steps=1500, per_decade=6, seed=0)
    return SnapshotSeries(
        run.snapshots, task.inputs, task.targets, test=(task.test_inputs, task.test_targets), loss="cross-entropy"
    )
