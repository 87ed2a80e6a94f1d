"""One training of a sweep: to the matched loss or the end of its budget, with what became of it."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from geomfeat.comparison.sweeps.config_parts import TrainConfig
from geomfeat.comparison.sweeps.grid import network_of
from geomfeat.comparison.sweeps.outcomes import (
    COMPLETED,
    DIVERGED,
    FAILED,
    MATCHED,
    TrainedRun,
    log_spaced,
    outcome_of,
)
from geomfeat.comparison.sweeps.plain_train import train_plain_run
from geomfeat.comparison.sweeps.run_config import RunConfig
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput
from geomfeat.models.modules import real_pairs
from geomfeat.models.nested_inputs import moved
from geomfeat.numerics import Device, resolve_device
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.regimes.training.objective import objective, top_curvature

ROUNDS = 20  # rounds of the power iteration for the sharpness


def train_run(run: RunConfig, data: Dataset, device: Device = "cpu") -> TrainedRun:
    """Train the network of a run. What training itself cannot do (an infinite start, say) is an outcome, not an error.

    A given eta stays constant even if the loss rises; eta None follows the curvature and halves a step that raises it.
    A network of the user's own, without an output scale, is trained as networks are in practice.
    """
    initial = network_of(run, data)
    if not isinstance(run.train, TrainConfig):
        return train_plain_run(run, run.train, initial, data, device)
    tested = None if data.test_inputs is None else (data.test_inputs, data.test_goal)
    wanted = log_spaced(run.train.max_steps, run.train.snapshots)
    try:
        first = sharpness(run, data, initial, initial, device)
        found = train_at_gamma(
            initial, data.inputs, data.goal, gamma=run.gamma, loss=run.train.loss, lr=run.eta,
            target_loss=run.train.target_loss, max_steps=run.train.max_steps, seed=run.seed, device=device,
            options=TrainOptions(
                batch_size=run.batch_size, momentum=run.train.momentum, optimizer=run.optimizer,
                back_off=run.eta is None, test=tested, snapshot_steps=wanted, centered=run.train.centered,
                weight_decay=run.train.weight_decay,
            ),
        )  # fmt: skip
        outcome, note = outcome_of(found, run.train.target_loss)
        last = None if outcome == DIVERGED else sharpness(run, data, initial, found.model, device)
    except BadInput as error:
        return TrainedRun(initial, None, FAILED, str(error))
    numbers = {
        "train_loss": found.train_loss, "test_loss": found.test_loss, "train_accuracy": found.train_accuracy,
        "test_accuracy": found.test_accuracy, "steps": found.steps, "eta": found.lr,
        "converged": outcome in (MATCHED, COMPLETED), "sharpness_initial": first, "sharpness": last,
        "stability": None if run.eta is None else run.eta * first,
    }  # fmt: skip
    return TrainedRun(initial, found.model, outcome, note, found.snapshots, numbers, found.rates)


def sharpness(run: RunConfig, data: Dataset, initial: nn.Module, trained: nn.Module, device: Device = "cpu") -> float:
    """Largest eigenvalue of the Gauss-Newton Hessian of the relative loss in u = (w - w0) / gamma, at `trained`.

    Source: see `geomfeat.regimes.training.objective.top_curvature`.
    """
    assert data.goal is not None
    assert isinstance(run.train, TrainConfig)
    where = resolve_device(device)
    problem = objective(
        copy.deepcopy(initial).to(where), moved(data.inputs, where), data.goal.to(where), gamma=run.gamma,
        loss=run.train.loss, readout=None, mode="eval", centered=run.train.centered,
    )  # fmt: skip
    ended = dict(trained.named_parameters())
    with torch.no_grad():
        u = torch.cat(
            [(real_pairs(ended[name].to(where)) - w).flatten() / run.gamma for name, w in problem.start.items()]
        )
    value = top_curvature(problem, u.to(problem.zero().dtype), None, ROUNDS)[0]
    return value if math.isfinite(value) else math.nan
