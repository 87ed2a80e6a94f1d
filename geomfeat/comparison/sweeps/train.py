"""One training of a sweep: to the matched loss or the end of its budget, with what became of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from geomfeat.comparison.sweeps.grid import RunConfig, network_of
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput
from geomfeat.models.modules import real_pairs
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.regimes.training.objective import objective, top_curvature
from geomfeat.regimes.training.scaled_training import Trained
from geomfeat.regimes.training.series import rounded_powers
from geomfeat.tangent import OptimizerRates

# Possible outcomes of a training.
MATCHED, COMPLETED = "matched", "completed"
UNMATCHED, STALLED, DIVERGED, FAILED, MISSING = "unmatched", "stalled", "diverged", "failed", "missing"
ABOVE = 1.001  # times the loss at the start, from which a network is worse than there, beyond rounding
ROUNDS = 20  # rounds of the power iteration for the sharpness
QUANTITIES = (
    "train_loss", "test_loss", "train_accuracy", "test_accuracy", "steps", "eta", "converged",
    "sharpness_initial", "sharpness", "stability",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """What a training gave.

    Attributes:
        initial, trained: the network at the start and at its last finite weights; None where none could be built.
        snapshots: step -> network. outcome: "matched" to the target loss; "completed", where there is none;
            "unmatched" at the end of the budget; "stalled"; "diverged"; "failed". note: the reason, in words.
        numbers: quantity -> value (see QUANTITIES), where it is known. train_loss, test_loss: relative to f = 0;
            sharpness: the largest curvature of the relative loss (Gauss-Newton, in u = (w - w0) / gamma), of the first
            and the last weights; stability: eta times the first one; plain gradient descent is stable below 2.
        rates: of the raw weights at the end, see `Trained`.
    """

    initial: nn.Module | None
    trained: nn.Module | None
    outcome: str
    note: str = ""
    snapshots: Mapping[int, nn.Module] = field(default_factory=dict)
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    rates: OptimizerRates | None = None

    @property
    def usable(self) -> bool:
        """Whether the last weights are those of a network that has learned something."""
        return self.trained is not None and self.outcome not in (DIVERGED, FAILED)


def train_run(run: RunConfig, data: Dataset) -> TrainedRun:
    """Train the network of a run. What training itself cannot do (an infinite start, say) is an outcome, not an error.

    A given eta stays constant even if the loss rises; eta None follows the curvature and halves a step that raises it.
    """
    initial = network_of(run, data)
    tested = None if data.test_inputs is None else (data.test_inputs, data.test_goal)
    wanted = log_spaced(run.train.max_steps, run.train.snapshots)
    try:
        first = sharpness(run, data, initial, initial)
        found = train_at_gamma(
            initial, data.inputs, data.goal, gamma=run.gamma, loss=run.train.loss, lr=run.eta,
            target_loss=run.train.target_loss, max_steps=run.train.max_steps, seed=run.seed,
            options=TrainOptions(
                batch_size=run.batch_size, momentum=run.train.momentum, optimizer=run.optimizer,
                back_off=run.eta is None, test=tested, snapshot_steps=wanted, centered=run.train.centered,
                weight_decay=run.train.weight_decay,
            ),
        )  # fmt: skip
        outcome, note = outcome_of(found, run.train.target_loss)
        last = None if outcome == DIVERGED else sharpness(run, data, initial, found.model)
    except BadInput as error:
        return TrainedRun(initial, None, FAILED, str(error))
    numbers = {
        "train_loss": found.train_loss, "test_loss": found.test_loss, "train_accuracy": found.train_accuracy,
        "test_accuracy": found.test_accuracy, "steps": found.steps, "eta": found.lr,
        "converged": outcome in (MATCHED, COMPLETED), "sharpness_initial": first, "sharpness": last,
        "stability": None if run.eta is None else run.eta * first,
    }  # fmt: skip
    return TrainedRun(initial, found.model, outcome, note, found.snapshots, numbers, found.rates)


def outcome_of(found: Trained, target_loss: float | None) -> tuple[str, str]:
    """(what became of a training, the reason in words; "" where it ended as it should)."""
    if found.note.startswith("diverged"):
        return DIVERGED, found.note
    if not found.train_loss <= ABOVE * found.initial_loss:
        return DIVERGED, f"relative loss {found.train_loss:.3g} after {found.steps} steps, above that of the start"
    if found.converged:
        return (COMPLETED if target_loss is None else MATCHED), ""
    if found.note.startswith(("stalled", "no step", "no epoch")):
        return STALLED, found.note
    return UNMATCHED, found.note


def log_spaced(last: int, count: int) -> list[int]:
    """`count` steps from 1 to below `last`, evenly spaced in log(step); fewer where they coincide.

    >>> log_spaced(1000, 4)
    [1, 6, 32, 178]
    """
    return rounded_powers(last, count, count)


def sharpness(run: RunConfig, data: Dataset, initial: nn.Module, trained: nn.Module) -> float:
    """Largest eigenvalue of the Gauss-Newton Hessian of the relative loss in u = (w - w0) / gamma, at `trained`.

    Source: see `geomfeat.regimes.training.objective.top_curvature`.
    """
    assert data.goal is not None
    problem = objective(
        copy.deepcopy(initial), data.inputs, data.goal, gamma=run.gamma, loss=run.train.loss, readout=None,
        mode="eval", centered=run.train.centered,
    )  # fmt: skip
    moved = dict(trained.named_parameters())
    with torch.no_grad():
        u = torch.cat([(real_pairs(moved[name]) - w).flatten() / run.gamma for name, w in problem.start.items()])
    value = top_curvature(problem, u.to(problem.zero().dtype), None, ROUNDS)[0]
    return value if math.isfinite(value) else math.nan
