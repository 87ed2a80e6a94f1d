"""How long a sweep will take, estimated from its finished runs, else from a few steps of three runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomfeat._numba.threads import libraries_on_one_thread
from geomfeat.comparison.sweeps.executors.base import RunTask
from geomfeat.comparison.sweeps.grid import dataset_of
from geomfeat.comparison.sweeps.run_config import RunConfig
from geomfeat.comparison.sweeps.task import run_table
from geomfeat.comparison.sweeps.train import train_run

FEW, MORE = 1, 11  # steps of the two trainings whose difference is the time of the steps between


@dataclass(frozen=True)
class SweepEstimate:
    """What a sweep would take.

    Attributes:
        trainings: planned. finished: of these, there already. seconds: of one training with its measures, mean.
        at_most: True where `seconds` counts all steps of the budget; False where it is the mean of finished runs.
    """

    trainings: int
    finished: int
    seconds: float
    at_most: bool

    def describe(self, workers: int) -> str:
        """The estimate as a sentence.

        >>> SweepEstimate(108, 8, 3.0, False).describe(2)
        '108 trainings, 8 finished. About 3.0 s each, as so far: about 2.5 minutes for 100 on 2 workers'
        """
        left = self.trainings - self.finished
        bound = "at most " if self.at_most else "about "
        each = "At most {:.1f} s each where all steps are taken" if self.at_most else "About {:.1f} s each, as so far"
        minutes = self.seconds * left / workers / 60
        several = f"{workers} worker{'s' * (workers > 1)}"
        return (
            f"{self.trainings} trainings, {self.finished} finished. {each.format(self.seconds)}: {bound}{minutes:.1f} "
            f"minutes for {left} on {several}"
        )


def estimate(todo: Sequence[RunTask], finished: Sequence[Mapping[str, Any]]) -> SweepEstimate:
    """The time of a sweep whose runs `todo` are to be made and `finished` (manifests) are there."""
    total = len(todo) + len(finished)
    if finished or not todo:
        seconds = [float(manifest.get("seconds", 0)) for manifest in finished]
        return SweepEstimate(total, len(finished), sum(seconds) / max(len(seconds), 1), at_most=False)
    chosen = [todo[i] for i in sorted({0, len(todo) // 2, len(todo) - 1})]
    with libraries_on_one_thread():
        times = [_seconds(RunConfig.model_validate_json(task.config), task.device) for task in [chosen[0], *chosen]]
    return SweepEstimate(total, 0, sum(times[1:]) / len(chosen), at_most=True)  # the first one compiles


def _seconds(run: RunConfig, device: str) -> float:
    """Of all steps and the measures of a run, from a few steps of it."""
    data = dataset_of(run)
    taken = []
    for steps in (FEW, MORE):
        short = run.train.model_copy(update={"max_steps": steps, "target_loss": None, "snapshots": 0})
        began = time.perf_counter()
        trained = train_run(run.model_copy(update={"train": short}), data, device)
        taken.append(time.perf_counter() - began)
    began = time.perf_counter()
    run_table(run, data, trained, "estimate", device)
    measuring = time.perf_counter() - began
    a_step = max(taken[1] - taken[0], 0.0) / (MORE - FEW)
    return taken[0] + a_step * run.train.max_steps + measuring
