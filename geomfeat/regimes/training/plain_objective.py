"""What an ordinary training lowers: the loss of a network's own outputs, on classes, values, or classes of tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geomfeat.activations.model_state import same_mode
from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout, call, output_matrix
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.models.readouts.main_output import main_output
from geomfeat.models.refused_inputs import explained
from geomfeat.regimes.training.class_targets import as_classes, as_row, numbered, share_right, unnumbered
from geomfeat.regimes.training.objective import LOSSES, loss_at_zero, loss_of, prepared_targets
from geomfeat.regimes.training.token_targets import IGNORED

AT_ONCE = 256  # samples per pass where no gradient is needed


@dataclass(frozen=True, eq=False)
class PlainObjective:
    """The loss on some samples. Counts are of samples, or of tokens where each has a target.

    Attributes:
        inputs: n samples. targets: (n,) classes, (n, C) values, or (n, tokens) classes with -100 for none.
        goal: the same before they were prepared for the loss. loss: "cross-entropy" or "mse". unit: of outputs 0.
        by_token: whether tokens have targets. readout: see `output_matrix`; None by token.
        classes: what classes 0, 1, ... were called, where they were numbered so.
    """

    inputs: Any
    targets: Tensor
    goal: Tensor
    loss: str
    unit: float
    by_token: bool
    readout: Readout | None
    classes: Tensor | None = None

    def outputs(self, model: nn.Module, rows: Tensor | slice) -> Tensor:
        """(n, C) of these samples, or (n, tokens, C)."""
        inputs = take(self.inputs, rows)
        output = call(model, inputs)
        return main_output(output).tensor if self.by_token else output_matrix(output, inputs, self.readout)

    def count(self, rows: Tensor | slice) -> int:
        """How many targets there are in these samples."""
        targets = self.targets[rows]
        return int((targets != IGNORED).sum()) if self.by_token else targets.shape[0]

    def total(self, model: nn.Module, rows: Tensor | slice) -> Tensor:
        """The sum of the loss over the targets of these samples."""
        return self._total_of(self.outputs(model, rows), rows)

    def _total_of(self, f: Tensor, rows: Tensor | slice) -> Tensor:
        targets = self.targets[rows]
        if self.by_token:
            return F.cross_entropy(f.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
        return loss_of(f, targets, self.loss) * targets.shape[0]

    def judged(self, model: nn.Module, *, loss_alone: bool = False) -> tuple[float, float | None]:
        """(loss over that of outputs 0, share of right classes or None), in evaluation mode, on all samples."""
        total, right, n = 0.0, 0.0, n_samples(self.inputs)
        with same_mode(model), torch.no_grad():
            model.eval()
            for start in range(0, n, AT_ONCE):
                rows = slice(start, min(n, start + AT_ONCE))
                f = self.outputs(model, rows)
                total += float(self._total_of(f, rows))
                right += 0.0 if loss_alone else self._right(f, rows)
        count = self.count(slice(None))
        classes = self.by_token or (self.goal.ndim == 1 and not self.goal.is_floating_point())
        return total / count / self.unit, right / count if classes and not loss_alone else None

    def _right(self, f: Tensor, rows: slice) -> float:
        goal = self.goal[rows]
        if self.by_token:
            return float(((f.argmax(2) == goal) & (goal != IGNORED)).sum())
        if goal.ndim != 1 or goal.is_floating_point():
            return 0.0
        return share_right(f, goal) * len(goal)


def plain_objective(
    model: nn.Module,
    inputs: Any,
    targets: Tensor,
    *,
    loss: str | None,
    readout: Readout | None,
    like: PlainObjective | None = None,
) -> PlainObjective:
    """The loss of `model` on these samples; the model is called on two of them to see its outputs.

    Args:
        targets: as for `train_plainly`. loss: None for "mse" of values, else "cross-entropy".
        like: of the training samples, where these are others: with their unit and numbers of classes.

    Raises BadInput for targets that the loss or the outputs do not fit.
    """
    n = n_samples(inputs)
    if targets.ndim == 0 or targets.shape[0] != n:
        raise BadInput(f"targets have shape {tuple(targets.shape)}, but inputs {n} samples: give one for each")
    loss = loss or ("mse" if targets.is_floating_point() else "cross-entropy")
    if loss not in LOSSES:
        raise BadInput(f"loss={loss!r} must be one of {', '.join(LOSSES)}, or None to take it from the targets")
    by_token = targets.ndim == 2 and targets.shape[1] > 1 and not targets.is_floating_point()
    first = PlainObjective(inputs, targets, targets, loss, 1.0, by_token, None if by_token else readout)
    with same_mode(model), torch.no_grad():
        model.eval()
        f = explained(model, lambda: first.outputs(model, slice(0, 2)), take(inputs, slice(0, 2)))
    if by_token:
        _check_tokens(f, targets, loss, readout)
        unit = math.log(f.shape[2]) if like is None else like.unit
        return PlainObjective(inputs, targets.long(), targets, loss, unit, True, None)
    n_outputs = f.shape[1]
    classes = unnumbered(as_row(targets, n_outputs), n_outputs) if like is None else like.classes
    goal = as_classes(targets, n_outputs) if like is None else numbered(as_row(targets, n_outputs), classes)
    ready = prepared_targets(goal, loss, n_outputs, f.dtype)
    unit = loss_at_zero(f.new_zeros(n, n_outputs), ready, loss) if like is None else like.unit
    return PlainObjective(inputs, ready, goal, loss, unit, False, readout, classes)


def _check_tokens(f: Tensor, targets: Tensor, loss: str, readout: Any) -> None:
    """BadInput where a network cannot learn classes of tokens, by its outputs of two samples."""
    if loss != "cross-entropy" or readout is not None:
        raise BadInput(
            f"targets (n, tokens) of whole numbers are classes of tokens, learned by cross-entropy of all of them, not "
            f"by loss={loss!r} with readout={readout!r}: leave both out"
        )
    if f.ndim != 3 or f.shape[1] != targets.shape[1]:
        raise BadInput(
            f"targets are of {targets.shape[1]} tokens, so the model must return (n, {targets.shape[1]}, classes), and "
            f"it returns (n, {', '.join(map(str, f.shape[1:]))})"
        )
    known = targets[targets != IGNORED]
    if not known.numel():
        raise BadInput("targets name no token: all are -100")
    if int(known.min()) < 0 or int(known.max()) >= f.shape[2]:
        raise BadInput(
            f"targets run from {int(known.min())} to {int(known.max())}, but the model has {f.shape[2]} outputs a "
            "token: give it a larger vocabulary"
        )
