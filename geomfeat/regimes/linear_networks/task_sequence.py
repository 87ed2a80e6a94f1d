"""Linear networks that learn one task after another: what is forgotten, reversed, transferred.

Gradient flow conserves lambda whatever the target, so the exact solution restarts with each new task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult, pair_columns
from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING
from geomfeat.regimes.linear_networks.flow import LinearPath, linear_flow
from geomfeat.regimes.linear_networks.task import LinearTask


@dataclass(frozen=True, eq=False)
class TaskSequence(PlottableResult):
    """A network along its training on tasks 0, 1, ...; every stretch starts where the last one ended.

    Args:
        paths: one for each stretch of training, its times counted from the stretch's start.
        starts: (tasks,), the time at which each stretch starts.

    `to_frame()`: one row for each task and time: task, time, loss.
    """

    paths: tuple[LinearPath, ...]
    starts: Tensor

    @property
    def times(self) -> Tensor:
        """All times, (T,), from the start of the first task."""
        return torch.cat([path.times + float(start) for path, start in zip(self.paths, self.starts, strict=True)])

    @property
    def product(self) -> Tensor:
        """The network's map along all tasks, (T, outputs, inputs)."""
        return torch.cat([path.product for path in self.paths])

    @property
    def losses(self) -> Tensor:
        """Loss on every task at all times, (tasks, T): the continual-learning curves."""
        product = self.product
        return torch.stack([path.task.loss(product) for path in self.paths])

    @property
    def forgetting(self) -> Tensor:
        """(tasks, tasks): row k, column j = loss on task k after training on task j, less that after its own training.

        NaN for j < k (not learned yet), 0 on the diagonal; positive = forgotten.
        """
        ends = torch.stack([path.product[-1] for path in self.paths])
        after = torch.stack([path.task.loss(ends) for path in self.paths])
        learned = torch.ones_like(after).triu().bool()
        return torch.where(learned, after - after.diagonal()[:, None], torch.full_like(after, float("nan")))

    def _columns(self) -> dict[str, Any]:
        table = pair_columns(range(len(self.paths)), self.times.tolist(), loss=self.losses)
        return {"task": table["row"], "time": table["column"], "loss": table["loss"]}

    def _chart(self) -> Plot:
        times, losses = self.times.tolist(), self.losses.tolist()
        return Plot("tasks in sequence", "time", "loss", [Curve(f"task {k}", times, y) for k, y in enumerate(losses)])

    def __str__(self) -> str:
        return f"TaskSequence: {len(self.paths)} tasks, {len(self.times)} times"


def learn_in_sequence(
    w1: Tensor, w2: Tensor, tasks: Sequence[LinearTask], times: Sequence[float] | Tensor
) -> TaskSequence:
    """Train lambda-balanced weights on `tasks` one after another, each seen at `times` (ascending) from its own start.

    The last of `times` is when the next task begins. Reversal learning is [task, task.reversed()]; transfer is the
    second path's loss from its start; a new item's answer is `paths[k].outputs(x)`. Errors as in `linear_flow`.

    >>> from geomfeat.regimes.linear_networks import balanced_network
    >>> task = LinearTask(torch.eye(2))
    >>> seen = learn_in_sequence(*balanced_network(2, 2, 2, 1.0), [task, task.reversed()], [0, 5, 20])
    >>> seen.losses.shape, round(float(seen.forgetting[0, 1]), 3)
    (torch.Size([2, 6]), 4.0)
    """
    if not tasks:
        raise BadInput("tasks is empty: give at least one LinearTask")
    paths: list[LinearPath] = []
    for task in tasks:
        paths.append(linear_flow(w1, w2, task, times))
        w1, w2 = paths[-1].w1[-1], paths[-1].w2[-1]
    starts = torch.arange(len(paths), dtype=WORKING, device=paths[0].times.device) * paths[0].times[-1]
    return TaskSequence(tuple(paths), starts)
