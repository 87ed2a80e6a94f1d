"""The periods of a trial: fixation, stimuli, delay, response; trials with longer delays begin their stimuli earlier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import stream

Delay = int | tuple[int, int]
FIXATION = "fixation"


@dataclass(frozen=True, eq=False)
class Timing:
    """When what happens, for B trials that all end with their response.

    Attributes:
        steps: T. first, last: period -> (B,) its first step, and one past its last.
    """

    steps: int
    first: dict[str, Tensor]
    last: dict[str, Tensor]

    def during(self, period: str) -> Tensor:
        """(B, T), true while the period lasts."""
        now = torch.arange(self.steps)
        return (now >= self.first[period][:, None]) & (now < self.last[period][:, None])

    @property
    def shared(self) -> dict[str, tuple[int, int]]:
        """Period -> (first, one past the last) step, of periods that all trials have at one time."""
        ends = {name: (first, self.last[name]) for name, first in self.first.items()}
        return {name: (int(first[0]), int(last[0])) for name, (first, last) in ends.items()
                if bool((first == first[0]).all() & (last == last[0]).all())}  # fmt: skip


def timing(n: int, periods: Sequence[tuple[str, Delay]], seed: int, task: str) -> Timing:
    """Periods in order, each of so many steps, or for (low, high) of a number drawn for each trial, ends included.

    The response comes last and at one time in all trials: where other periods are short the first one is longer.

    Raises BadInput for fewer than one trial, negative numbers of steps, no response, or a range that runs backwards.

    >>> timing(2, [("fixation", 1), ("stimulus", 2), ("response", 1)], 0, "demo").during("response").int().tolist()
    [[0, 0, 0, 1], [0, 0, 0, 1]]
    """
    if n < 1:
        raise BadInput(f"n={n} trials: at least 1")
    lengths = {name: _lengths(n, name, steps, seed, task) for name, steps in periods}
    response = periods[-1][0]
    if int(lengths[response].min()) < 1:
        raise BadInput(f"{response}={periods[-1][1]} steps: at least 1, in which the answer is given")
    total = torch.stack(list(lengths.values())).sum(0)
    steps = int(total.max())
    opening = periods[0][0]
    lengths[opening] = lengths[opening] + steps - total
    first, last, now = {}, {}, torch.zeros(n, dtype=torch.long)
    for name, length in lengths.items():
        first[name], now = now, now + length
        last[name] = now
    return Timing(steps, first, last)


def _lengths(n: int, name: str, steps: Delay, seed: int, task: str) -> Tensor:
    low, high = steps if isinstance(steps, tuple) else (steps, steps)
    if not 0 <= low <= high:
        raise BadInput(f"{name}={steps} steps: a number of at least 0, or (least, most)")
    return torch.randint(low, high + 1, (n,), generator=stream(seed, task, "steps", name))


def balanced(n: int, kinds: int, seed: int, task: str) -> Tensor:
    """(n,) conditions 0 .. kinds - 1 in drawn order, each as often as the others, or once more."""
    order = torch.randperm(n, generator=stream(seed, task, "conditions"))
    return (torch.arange(n) % kinds)[order]


def noise(like: Tensor, size: float, seed: int, task: str) -> Tensor:
    """Independent Gaussian numbers of this standard deviation, in the shape and precision of `like`."""
    if not 0 <= size < float("inf"):
        raise BadInput(f"noise_size={size} must be a number of at least 0")
    return size * torch.randn(like.shape, generator=stream(seed, task, "noise"), dtype=like.dtype)
