"""What a study knows of the time of its snapshots, and the series that diagnostics over time take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.measures.series.time_regime import FEWEST
from geomfeat.models.nested_inputs import as_inputs, n_samples, take
from geomfeat.snapshots import SnapshotSeries
from geomfeat.study.location_rows import CLEARLY, accuracies
from geomfeat.study.snapshots import INITIAL, TRAINED, Subject
from geomfeat.types import Snapshot

TEST = "test"  # the part of the data whose samples were not trained on
# The accuracy that counts as learned is .8: of 1000 samples its standard error is .013.
MOST_TEST = 1000


@dataclass(frozen=True, eq=False)
class Course:
    """The time of a study's snapshots, and how they were trained, as far as it is known.

    Attributes:
        steps: moment -> step, in order of time; moments without a known step are not there.
        test: (inputs, labels) that were not trained on, or None. loss: of the training. gamma: its output scale.
    """

    steps: dict[str, int]
    test: tuple[Any, Any] | None = None
    loss: str | None = None
    gamma: float | None = None

    @property
    def is_long_enough(self) -> bool:
        """Whether there are enough snapshots for an order of events."""
        return len(self.steps) >= FEWEST

    @property
    def at(self) -> str:
        """The first and the last moment, as the table names a change."""
        first, *_, last = self.steps
        return f"{first}->{last}"


def course_of(
    trained: Any,
    initial: Any,
    checkpoints: Mapping[Any, Any] | None,
    evaluate: Mapping[str, tuple[Any, Any]] | None,
    loss: str | None,
    conditions: Mapping[str, Any],
) -> Course:
    """The course of what a study was given. The part "test" of `evaluate` was not trained on.

    >>> course_of(Snapshot(torch.nn.Linear(1, 1), at=90), torch.nn.Linear(1, 1), {30: None, "best": None}, None,
    ...           None, {}).steps
    {'init': 0, '30': 30, 'trained': 90}
    """
    gamma = conditions.get("gamma")
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not gamma > 0:
        gamma = None
    test = (evaluate or {}).get(TEST)
    test = None if test is None or test[1] is None else test
    return Course(known_steps(trained, initial, checkpoints), test, loss, gamma)


def known_steps(trained: Any, initial: Any, checkpoints: Mapping[Any, Any] | None) -> dict[str, int]:
    """Moment -> step, in order of time and once for each step: checkpoints are named by theirs, initial is step 0.

    The trained network has a step where it is a Snapshot that says so, `Snapshot(model, at=1000)`.
    """
    found = {} if initial is None else {INITIAL: _step(initial, 0)}
    found |= {str(key): int(key) for key in checkpoints or {} if str(key).isdecimal()}
    found[TRAINED] = _step(trained, None)
    by_step: dict[int, str] = {}
    for at, step in found.items():
        if step is not None:
            by_step.setdefault(step, at)
    return {by_step[step]: step for step in sorted(by_step)}


def _step(given: Any, otherwise: int | None) -> int | None:
    known = isinstance(given, Snapshot) and not isinstance(given.at, str)
    return int(given.at) if known else otherwise


def series_of(subject: Subject, course: Course) -> SnapshotSeries:
    """The snapshots whose steps are known as a series, with the samples of the study as those of the training.

    A network that was trained with its initial outputs subtracted is read so: where the output scale is known, unless
    the plain outputs are right more often; where it is not, if they are clearly (by .1) right less often.
    """
    snapshots = [replace(subject.snapshots[at], at=step) for at, step in course.steps.items()]
    look, test = subject.look, _test_samples(course.test, subject.classes)
    return SnapshotSeries(
        snapshots, subject.inputs, subject.goal, test, course.loss, _scale(subject, course), look.readout,
        None if look.device is None else str(look.device),
    )  # fmt: skip


def _scale(subject: Subject, course: Course) -> float | None:
    """The output scale to read by, or None for the plain outputs."""
    if next(iter(course.steps)) != INITIAL or not subject.has_outputs or subject.labels is None:
        return None
    readings = accuracies(subject, {"data": (subject.inputs, subject.labels)}, course.loss)
    plain, change = (found.get("data", 0.0) for found in readings)
    if course.gamma is not None:
        return course.gamma if change >= plain else None
    return 1.0 if change > plain + CLEARLY else None


def _test_samples(test: tuple[Any, Any] | None, classes: tuple[str, ...]) -> tuple[Any, Tensor] | None:
    if test is None:
        return None
    inputs = as_inputs(test[0])
    n = n_samples(inputs)
    labels = as_goal(test[1], "labels of evaluate['test']", classes)
    if len(labels) != n:
        raise BadInput(f"labels of evaluate['test'] has {len(labels)} entries, but there are {n} samples")
    rows = torch.arange(min(n, MOST_TEST)) * n // min(n, MOST_TEST)
    return take(inputs, rows), labels[rows.to(labels.device)]
