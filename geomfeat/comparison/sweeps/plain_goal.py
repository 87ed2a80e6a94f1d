"""What a network of the user's own is to learn in a sweep: classes, values, or the next token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from geomfeat.comparison.sweeps.config_parts import PlainTrainConfig
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput
from geomfeat.models.nested_inputs import take
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.models.weights.checkpoints import what_went_wrong
from geomfeat.regimes.training.plain_objective import plain_objective
from geomfeat.regimes.training.token_targets import next_tokens

NEXT_TOKEN = "next-token"


def loss_named(train: PlainTrainConfig, data: Dataset) -> str:
    """The loss that was asked for; else mse for values, cross-entropy for classes, and next-token without either."""
    if train.loss is not None:
        return train.loss
    return "mse" if data.targets is not None else NEXT_TOKEN if data.labels is None else "cross-entropy"


def plain_loss(name: str) -> str:
    """The loss of that name as `train_plainly` and `locate` know it.

    >>> plain_loss("next-token"), plain_loss("mse")
    ('cross-entropy', 'mse')
    """
    return "cross-entropy" if name == NEXT_TOKEN else name


def goal_of(inputs: Any, goal: Tensor | None, loss: str) -> Tensor:
    """The targets for that loss: labels or values, or the next token of the inputs.

    Raises BadInput where there are none, or the inputs are no token ids.
    """
    if loss == NEXT_TOKEN:
        return next_tokens(inputs.take(slice(None)) if isinstance(inputs, LazyInputs) else inputs)
    if goal is None:
        raise BadInput(
            f"train.loss={loss!r} needs labels or targets, and the data have none: give next-token, or labels"
        )
    return goal


def check_learns(network: nn.Module, train: PlainTrainConfig, data: Dataset, where: str) -> None:
    """BadInput where a network does not take two samples of the data, or its outputs do not fit what it is to learn."""
    loss = loss_named(train, data)
    try:
        goal = goal_of(take(data.inputs, slice(0, 2)) if loss == NEXT_TOKEN else data.inputs, data.goal, loss)
        inputs = take(data.inputs, slice(0, 2)) if loss == NEXT_TOKEN else data.inputs
        plain_objective(network, inputs, goal, loss=plain_loss(loss), readout=None)
    except BadInput as cause:
        raise BadInput(f"{where} cannot learn data={data.name!r}: {cause}") from cause
    except (Exception, SystemExit) as cause:
        raise BadInput(f"{where} fails on a batch of data={data.name!r}: {what_went_wrong(cause)}") from cause
