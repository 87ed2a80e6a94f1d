"""One training to be located and judged, and a family of such: what networks were before and after, and on what data.

A family here is no ladder of output scales: its conditions change what is hard for a location (rates, imbalance,
parts that are frozen, steps that are too long), and its trainings are judged by their outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from geomfeat.activations.layer_selection import Patterns
from geomfeat.data._load_data import load_data
from geomfeat.numerics import WORKING, stream

Conditions = Mapping[str, float | str]
HIDDEN_UNITS = 4  # of the teacher


@dataclass(frozen=True)
class Task:
    """Inputs (n, ...), targets ((n, C) values or (n,) classes) and further inputs that training does not see."""

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor


@dataclass(frozen=True, eq=False)
class Training:
    """A network before and after training.

    Attributes:
        optimizer: what trained it, as `locate` takes it; None: plain descent of equal rates.
        shown: whether `locate` gets it. without_state: given as before its first step.
        layers: hidden layers, as `locate` takes them. loss: relative training loss that was reached.
    """

    initial: nn.Module
    trained: nn.Module
    task: Task
    loss: float
    optimizer: Any = None
    shown: bool = True
    without_state: bool = False
    layers: Patterns = "*"

    def given(self) -> Any:
        """The optimizer as `locate` is given it."""
        if not self.shown:
            return None
        return _stateless(self.optimizer) if self.without_state else self.optimizer


@dataclass(frozen=True, eq=False)
class OutcomeFamily:
    """A family of trainings.

    Attributes:
        name: of the family. kind: what its conditions change, see `families`.
        conditions: of its trainings. train: (conditions, seed) -> Training, the same each time.
    """

    name: str
    kind: str
    conditions: tuple[Conditions, ...]
    train: Callable[[Conditions, int], Training]


def _stateless(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer as it was before its first step."""
    make = cast(Callable[[Any], torch.optim.Optimizer], type(optimizer))
    return make([dict(group) for group in optimizer.param_groups])


def teacher_task(seed: int, *, n: int = 32, inputs: int = 10, outputs: int = 2, test: int = 64) -> Task:
    """Values of a random tanh network with four hidden units on Gaussian inputs; of mean 0 and mean square 1."""
    draw = stream(seed, "validation", "teacher")
    x = torch.randn(n + test, inputs, generator=draw, dtype=WORKING)
    first, second = (
        torch.randn(a, b, generator=draw, dtype=WORKING) for a, b in ((inputs, HIDDEN_UNITS), (HIDDEN_UNITS, outputs))
    )
    y = torch.tanh(2 * x @ first / inputs**0.5) @ second
    y = y - y[:n].mean(0)
    y = y / y[:n].square().mean().sqrt()
    return Task(x[:n], y[:n], x[n:])


def digits_task(seed: int, *, n: int = 30, classes: int = 3, test: int = 60) -> Task:
    """Digits of the first classes, (n, 1, 8, 8), with their classes as targets; as many of each as chance gives."""
    data = load_data("digits")
    assert data.labels is not None
    rows = torch.nonzero(data.labels < classes).flatten()
    rows = rows[torch.randperm(len(rows), generator=stream(seed, "validation", "digits"))[: n + test]]
    x = torch.as_tensor(data.inputs)[rows].to(WORKING)
    return Task(x[:n], data.labels[rows[:n]], x[n:])


def centred_values(task: Task, classes: int) -> Task:
    """The same with one-hot rows minus 1 / classes as values to fit."""
    rows = nn.functional.one_hot(task.targets, classes).to(WORKING) - 1 / classes
    return replace(task, targets=rows)
