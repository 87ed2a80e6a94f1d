"""The time that a monitor may take: a share of the training time, kept by measuring less often."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median_low

RECENT = 5  # measurements, of which the middle one is how long the next may take
ROUND = (1, 2, 5)  # times powers of ten: the numbers of steps that `every` grows to


class Budget:
    """When to measure, so that measuring takes at most `max_share` of the time between calls (None: no limit).

    Attributes:
        every: steps between measurements; more than asked for while they take too long. spent, trained: seconds.
    """

    def __init__(self, every: int, max_share: float | None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.every = self._asked = every
        self.spent = 0.0
        self.trained = 0.0
        self._max_share = math.inf if max_share is None else max_share
        self._clock = clock
        self._recent: list[float] = []
        self._left: float | None = None
        self._last: int | None = None
        self._steps = 0

    def now(self) -> float:
        """Seconds of the clock."""
        return self._clock()

    def enter(self) -> None:
        """A step of the training has ended."""
        now = self._clock()
        if self._left is not None:
            self.trained += now - self._left
            self._steps += 1
        self._left = now

    def due(self, step: int) -> bool:
        """Whether this step is to be measured."""
        if self._last is None:
            return True
        if step - self._last < self.every:
            return False
        return self._max_share == math.inf or self.spent + self._expected <= self._max_share * self.trained

    @property
    def earliest(self) -> int | None:
        """The step before which none is due; None before the first measurement."""
        return None if self._last is None else self._last + self.every

    @contextmanager
    def measuring(self, step: int) -> Iterator[None]:
        """What is inside is a measurement; the training goes on after it. The first, which prepares, is not counted."""
        begin = self._clock()
        try:
            yield
        finally:
            self._left = self._clock()
            took = self._left - begin
            if self._last is not None:
                self.spent += took
                self._recent = [*self._recent, took][-RECENT:]
                self.every = self._affordable()
            self._last = step

    @property
    def _expected(self) -> float:
        return median_low(self._recent) if self._recent else 0.0

    def _affordable(self) -> int:
        """Steps between measurements: as asked for, or so many that those take the share at most."""
        of_step = self.trained / self._steps if self._steps else 0.0
        needed = self._expected / (self._max_share * of_step) if of_step > 0 else 0.0
        return self._asked if needed <= self._asked else rounded_up(needed)

    @property
    def share(self) -> float:
        """Of the training time that measuring took; NaN before any training."""
        return self.spent / self.trained if self.trained > 0 else math.nan


def rounded_up(steps: float) -> int:
    """The next larger of 1, 2, 5, 10, 20, 50, ...

    >>> rounded_up(3.0), rounded_up(50.0), rounded_up(51.0)
    (5, 50, 100)
    """
    power = 10 ** max(0, math.floor(math.log10(steps)))
    return next(k * power for k in (*ROUND, 10) if k * power >= steps)
