"""One training of a network of the user's own in a sweep, as networks are trained in practice."""

from __future__ import annotations

from torch import nn

from geomfeat.comparison.sweeps.config_parts import PlainTrainConfig
from geomfeat.comparison.sweeps.outcomes import (
    COMPLETED,
    FAILED,
    MATCHED,
    TrainedRun,
    log_spaced,
    outcome_of,
)
from geomfeat.comparison.sweeps.plain_goal import goal_of, loss_named, plain_loss
from geomfeat.comparison.sweeps.run_config import RunConfig
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.numerics import Device
from geomfeat.regimes.training import PlainOptions, train_plainly
from geomfeat.regimes.training.plain_objective import plain_objective


def train_plain_run(
    run: RunConfig, train: PlainTrainConfig, initial: nn.Module, data: Dataset, device: Device = "cpu"
) -> TrainedRun:
    """Train `initial` and judge it; with `ema` the network that counts is the averaged one.

    What training itself cannot do is an outcome, not an error.
    """
    loss = loss_named(train, data)
    inputs = data.inputs.take(slice(None)) if isinstance(data.inputs, LazyInputs) else data.inputs
    assert isinstance(train.lr, float)
    assert isinstance(train.weight_decay, float)
    try:
        goal = goal_of(inputs, data.goal, loss)
        test = None
        if data.test_inputs is not None:
            test = (data.test_inputs, goal_of(data.test_inputs, data.test_goal, loss))
        found = train_plainly(
            initial, inputs, goal, loss=plain_loss(loss), seed=run.seed, device=device,
            options=PlainOptions(
                optimizer=train.optimizer, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay,
                schedule=train.schedule, warmup_steps=train.warmup_steps, clip=train.clip, ema=train.ema,
                batch_size=train.batch_size, accumulation=train.accumulation, max_steps=train.max_steps,
                target_loss=train.target_loss, test=test,
                snapshot_steps=log_spaced(train.max_steps, train.snapshots),
            ),
        )  # fmt: skip
    except BadInput as error:
        return TrainedRun(initial, None, FAILED, str(error))
    outcome, note = outcome_of(found, train.target_loss)
    trained = found.trained if found.ema is None else found.ema
    judged = {"train": (found.train_loss, found.train_accuracy), "test": (found.test_loss, found.test_accuracy)}
    if found.ema is not None:
        of_training = plain_objective(trained, inputs, goal, loss=plain_loss(loss), readout=None)
        judged["train"] = of_training.judged(trained)
        if test is not None:
            of_test = plain_objective(trained, *test, loss=plain_loss(loss), readout=None, like=of_training)
            judged["test"] = of_test.judged(trained)
    numbers: dict[str, float | None] = {
        "steps": found.steps, "eta": train.lr, "converged": outcome in (MATCHED, COMPLETED)
    }  # fmt: skip
    for part, (value, accuracy) in judged.items():
        numbers |= {f"{part}_loss": value, f"{part}_accuracy": accuracy}
    return TrainedRun(found.initial, trained, outcome, note, found.snapshots, numbers, found.rates)
