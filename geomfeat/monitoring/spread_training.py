"""What the processes of a training do together where each holds a part of the weights: decide, and gather."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from geomfeat.distributed import gathered
from geomfeat.errors import BadInput
from geomfeat.monitoring.budget import Budget
from geomfeat.monitoring.whole_copy import WholeCopy
from geomfeat.monitoring.whole_optimizer import WholeOptimizer


class SpreadTraining:
    """A network and its optimizer, of which each process holds a part.

    All processes make it and call its methods at the same steps. The first process has the whole within `all_here`.

    Attributes:
        network: a whole copy of the network; None on the other processes. optimizer: that of the copy.
        last: the step at which the weights were gathered last.
    """

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self._copy = WholeCopy(model)
        self.network = self._copy.network
        self._whole = WholeOptimizer(optimizer, self._copy) if isinstance(optimizer, torch.optim.Optimizer) else None
        self.optimizer = optimizer if self._whole is None else self._whole
        self.last: int | None = None
        self._asking_from: int | None = None

    def begun(self, problem: BaseException | None) -> None:
        """The first process says whether it can measure; BadInput on the others where it cannot."""
        said = gathered(None if problem is None else f"{type(problem).__name__}: {problem}")[0]
        if said is not None and self.network is None:
            raise BadInput(f"the monitor could not begin on the first process: {said}")
        self._release()

    def agreed(self, step: int, budget: Budget | None) -> bool:
        """Whether this step is measured, by the budget of the first process (None on the others).

        It is asked only from the step on that it named before, so that few steps wait for its answer.
        """
        if self._asking_from is not None and step < self._asking_from:
            return False
        due, self._asking_from = gathered(None if budget is None else [budget.due(step), budget.earliest])[0]
        return due

    @property
    def whole(self) -> nn.Module:
        """The whole copy, of the first process."""
        assert self.network is not None
        return self.network

    @contextmanager
    def all_here(self, step: int) -> Iterator[None]:
        """Inside, the first process has the present weights of the whole network."""
        self.last = step
        try:
            self._copy.fill()
            if self._whole is not None:
                self._whole.fill()
            yield
        finally:
            self._release()

    def take_part(self, step: int, *, last: bool = False) -> None:
        """What the other processes do when the first one may measure: at the last step if it did not yet."""
        if (last and self.last != step) or (not last and self.agreed(step, None)):
            with self.all_here(step):
                pass

    def _release(self) -> None:
        self._copy.release()
        if self._whole is not None:
            self._whole.release()
