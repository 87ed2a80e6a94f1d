"""Stages of learning on a task with one output: the order of events, and the stages of a study over its checkpoints."""

from __future__ import annotations

import pytest
import torch

import geomfeat as gf
from geomfeat.comparison.relations.capacity_stages import stages
from geomfeat.data.tasks import delayed_match
from geomfeat.measures.series.time_regime import time_regime
from geomfeat.models.recurrent import rate_rnn
from geomfeat.numerics import WORKING
from geomfeat.regimes.training import Trained, TrainOptions, train_at_gamma
from geomfeat.snapshots import SnapshotSeries

TRIALS = delayed_match(24, delay=2, seed=0)
X = TRIALS.inputs.to(WORKING)


def trained(gamma: float) -> tuple[torch.nn.Module, Trained]:
    start = rate_rnn(3, 24, 1, gain=1.2, seed=0).to(WORKING)
    found = train_at_gamma(start, X, TRIALS.choices, gamma=gamma, target_loss=0.02, max_steps=1500,
                           options=TrainOptions(snapshot_steps="log"))  # fmt: skip
    return start, found


@pytest.mark.parametrize(("gamma", "verdict"), [(0.01, "lazy throughout"), (3.0, "rich from the start")])
def test_one_output_of_two_answers_has_its_order_of_events(gamma: float, verdict: str) -> None:
    _, run = trained(gamma)
    found = time_regime(SnapshotSeries(run.snapshots_list, X, TRIALS.choices, gamma=gamma), probes=24)
    assert found["furthest_turn"].note.split(";")[0] == verdict
    assert found["fit_time"].ok
    losses = run.snapshot_losses
    # Fitted once all answers are right: the outputs of both answers lie apart, so the loss has mostly fallen.
    after = [loss for step, loss in losses.items() if step >= found["fit_time"].value]
    assert max(after) < 0.5


def test_a_study_over_the_checkpoints_has_the_stages_of_capacity() -> None:
    start, run = trained(1.0)
    steps = sorted(run.snapshots)[1:-1][::2]
    table = gf.analyze(
        run.model, X, TRIALS.choices, initial=start, measures=["capacity"], progress=False, location=False,
        checkpoints={step: run.snapshots[step] for step in steps},
    ).table  # fmt: skip
    alpha = table[(table["measure"] == "capacity") & (table["quantity"] == "capacity")].set_index("at")["value"]
    assert set(alpha.index) == {"init", *map(str, steps), "trained"}
    assert alpha["trained"] > alpha["init"]  # the answers are apart once they are learned
    found = stages(table, "rates")
    assert found["from_step"].iloc[0] == 0
    assert found["moments"].sum() == len(alpha)
    assert found["stage"].str.len().gt(0).all()
