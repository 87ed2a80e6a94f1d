"""Trials of a task for recurrent networks: inputs and targets at every step, and which steps are scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from geomfeat.data.dataset import Dataset
from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.numerics import require_finite


@dataclass(frozen=True, eq=False)
class TaskTrials(BaseResult):
    """Trials of one task, B trials of T steps, trials first.

    Attributes:
        inputs: (B, T, C). targets: (B, T, K), wanted at the steps of `mask` alone, 0 elsewhere.
        mask: (B, T), true at steps that are scored.
        labels: (B,) the condition of each trial. choices: (B,) the right answer at the end of each.
        name: of the task. channels, conditions, answers: names of inputs, labels and choices.
        periods: name -> (first step, one past the last), of trials that all have one timing.

    `to_frame()`: a row for each trial: condition, answer.

    Raises BadInput for shapes that do not fit, values that are not finite, and trials of which no step is scored.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    labels: Tensor
    choices: Tensor
    name: str
    channels: tuple[str, ...]
    conditions: tuple[str, ...]
    answers: tuple[str, ...]
    periods: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        b, t = self.inputs.shape[:2]
        wanted = {"inputs": (b, t, len(self.channels)), "targets": (b, t, self.targets.shape[-1]), "mask": (b, t),
                  "labels": (b,), "choices": (b,)}  # fmt: skip
        for part, shape in wanted.items():
            if tuple(getattr(self, part).shape) != shape:
                raise BadInput(
                    f"{part} of task {self.name!r} have shape {tuple(getattr(self, part).shape)}, not {shape}: give "
                    "trials first, then steps"
                )
        require_finite(self.inputs, f"inputs of task {self.name!r}")
        require_finite(self.targets, f"targets of task {self.name!r}")
        if not bool(self.mask.any(1).all()):
            raise BadInput(f"mask of task {self.name!r} leaves trials without a scored step: drop these trials")

    @property
    def n(self) -> int:
        """Number of trials."""
        return self.inputs.shape[0]

    @property
    def masked_inputs(self) -> dict[str, Tensor]:
        """Inputs with their mask, as a network takes them that returns 0 where a step is not scored.

        With `masked_targets` a mean square over all its outputs is one over the scored steps alone.
        """
        return {"x": self.inputs, "mask": self.mask}

    @property
    def masked_targets(self) -> Tensor:
        """(B, T * K) targets of all steps, 0 where a step is not scored."""
        return (self.targets * self.mask[..., None]).flatten(1)

    def dataset(self, test: TaskTrials | None = None, *, every_step: bool = False) -> Dataset:
        """The trials as a data set whose labels are the right answers.

        Args:
            test: held-out trials of the same task.
            every_step: `masked_inputs`, and as what is to be learned `masked_targets`, in place of the answers.
        """

        def parts(trials: TaskTrials | None) -> tuple[Any, Any, Any]:
            if trials is None:
                return None, None, None
            if every_step:
                return trials.masked_inputs, trials.choices, trials.masked_targets
            return trials.inputs, trials.choices, None

        (x, y, values), (x_test, y_test, test_values) = parts(self), parts(test)
        return Dataset(x, y, self.name, self.answers, x_test, y_test, "as drawn", targets=values,
                       test_targets=test_values)  # fmt: skip

    def _columns(self) -> dict[str, list[Any]]:
        return {
            "condition": [self.conditions[i] for i in self.labels.tolist()],
            "answer": [self.answers[i] for i in self.choices.tolist()],
        }

    def __str__(self) -> str:
        steps, scored = self.inputs.shape[1], float(self.mask.sum(1).double().mean())
        return (
            f"Task {self.name}: {self.n} trials of {steps} steps, {scored:g} of them scored; "
            f"{len(self.channels)} inputs, {self.targets.shape[2]} outputs, {len(self.conditions)} conditions"
        )
