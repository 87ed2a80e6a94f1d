"""Gradient flow of outputs on any differentiable loss: df/dt = -K dL/df, where no closed form or bound is known.

With a small kernel the coefficients a of f = f(0) + K a follow da/dt = -dL/df by an implicit method of order 5 (Radau
IIA, Hairer and Wanner 1996), which needs the curvature and no bound on it. Else by explicit steps of 1 over the largest
curvature where they begin, that lower the loss by no more than a tenth, and are halved where it rises.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from geomfeat.forecasting.output_loss import OutputLoss
from geomfeat.numerics import WORKING

IMPLICIT_UP_TO = 512  # rows n C
PRECISION = 1e-8  # relative, of the coefficients
MOST_EVALUATIONS = 5000  # of a loss that is not smooth, before explicit steps take over
LONGEST = 1e8  # in units of the time that the first slope would take for the whole loss
STEPS, MOST_LOWERED = 600, 0.1
HALVINGS = 50  # of a step
NEWTON = 6
AT_REST = 1e-4  # of the loss, lowered while time grows e-fold: there is no more to learn


class Flow(NamedTuple):
    """Change (n, C) of the outputs, coefficients (n, C), time, relative loss, and whether that is the target."""

    change: Tensor
    coefficients: Tensor
    time: float
    loss: float
    reached: bool


def flow_on(
    product: Callable[[Tensor], Tensor],
    gram: Tensor | None,
    largest: float,
    start: Tensor,
    loss: OutputLoss,
    *,
    target: float | None,
    longest: float = math.inf,
) -> Flow:
    """Until the relative loss is `target`, or for the time `longest`, or as far as it gets.

    Args:
        product: v -> K v of (n, C) arrays. gram: the same as a matrix, if it was formed. largest: eigenvalue of it.

    >>> from geomfeat.forecasting.callable_loss import callable_loss
    >>> eye, zero = torch.eye(2, dtype=WORKING), torch.zeros(2, 1, dtype=WORKING)
    >>> loss = callable_loss(lambda f, y: (f - y).square().sum(1), torch.tensor([[3.0], [4.0]]), 1)
    >>> found = flow_on(lambda v: v, eye, 1.0, zero, loss, target=0.01)  # a tenth of the targets is left
    >>> [round(v, 6) for v in found.change.flatten().tolist()], round(found.time, 6)
    ([2.7, 3.6], 2.302585)
    """
    if gram is not None and len(gram) <= IMPLICIT_UP_TO:
        try:
            return _implicit(gram.to(WORKING), start, loss, target, longest)
        except _TooRoughError:
            pass
    return _explicit(product, largest, start, loss, target, longest)


class _TooRoughError(Exception):
    """The loss is not smooth enough for an implicit method."""


class _Problem:
    """The flow of the coefficients as scipy takes it."""

    def __init__(self, gram: Tensor, start: Tensor, loss: OutputLoss) -> None:
        self.gram, self.start, self.loss, self.count, self.size = gram, start, loss, 0, 1.0

    def outputs(self, a: np.ndarray) -> Tensor:
        return self.start + (self.gram @ torch.from_numpy(a).to(self.gram)).view_as(self.start)

    def relative(self, a: np.ndarray) -> float:
        return self.loss.relative(self.outputs(a))

    def velocity(self, _: float, a: np.ndarray) -> np.ndarray:
        self.count += 1
        if self.count > MOST_EVALUATIONS:
            raise _TooRoughError
        return -self.loss.slope(self.outputs(a)).flatten().cpu().numpy()

    def jacobian(self, _: float, a: np.ndarray) -> np.ndarray:
        f = self.outputs(a)
        bent = self.loss.curved(f, self.gram.view(*f.shape, -1))
        return -bent.flatten(0, 1).cpu().numpy()

    def falls(self, a: np.ndarray) -> float:
        """-d(relative loss)/dt."""
        down = self.loss.slope(self.outputs(a)).flatten()
        return float(down @ self.gram @ down) / self.loss.unit

    def solved(self, span: tuple[float, float], a: np.ndarray, events: Any = None) -> Any:
        found = solve_ivp(
            self.velocity, span, a, method="Radau", jac=self.jacobian, rtol=PRECISION, atol=PRECISION * self.size,
            events=events,
        )  # fmt: skip
        if found.status < 0:
            raise _TooRoughError
        return found


def _implicit(gram: Tensor, start: Tensor, loss: OutputLoss, target: float | None, longest: float) -> Flow:
    problem = _Problem(gram, start, loss)
    a = np.zeros(start.numel())
    falls = problem.falls(a)
    if not falls > 0:
        return _flow(problem, a, 0.0, loss.relative(start), reached=False)
    unit = loss.relative(start) / falls  # of time
    problem.size = unit * float(np.abs(problem.velocity(0.0, a)).max())  # of coefficients
    end = min(longest, LONGEST * unit)

    def left(_: float, a: np.ndarray) -> float:
        return problem.relative(a) - (target or 0.0)

    def moving(time: float, a: np.ndarray) -> float:
        return max(time, unit) * problem.falls(a) - AT_REST * problem.relative(a)

    left.terminal = moving.terminal = True  # type: ignore[attr-defined]
    found = problem.solved((0.0, end), a, [left, moving] if target is not None else [moving])
    time, a, before = found.t[-1], found.y[:, -1], (found.t[-2], found.y[:, -2])
    if target is None or not len(found.t_events[0]):
        return _flow(problem, a, float(time), problem.relative(a), reached=False)
    # The crossing was interpolated: it is made exact from the step before it.
    for _ in range(NEWTON):
        a = problem.solved((before[0], time), before[1]).y[:, -1]
        miss, falls = problem.relative(a) - target, problem.falls(a)
        if abs(miss) <= PRECISION * target or not falls > 0:
            break
        time = max(time + miss / falls, (before[0] + time) / 2)
    return _flow(problem, a, float(time), target, reached=True)


def _flow(problem: _Problem, a: np.ndarray, time: float, loss: float, *, reached: bool) -> Flow:
    own = torch.from_numpy(a).to(problem.gram).view_as(problem.start)
    return Flow(problem.outputs(a) - problem.start, own, time, loss, reached)


def _explicit(
    product: Callable[[Tensor], Tensor], largest: float, start: Tensor, loss: OutputLoss, target: float | None,
    longest: float,
) -> Flow:  # fmt: skip
    a, change, time, now = torch.zeros_like(start), torch.zeros_like(start), 0.0, loss.relative(start)
    for _ in range(STEPS):
        f = start + change
        down = -loss.slope(f)
        moved = product(down).to(WORKING)
        falls = float((down * moved).sum()) / loss.unit
        if not falls > 0:
            break
        steep = largest * loss.steepest_at(f)
        h = min(longest - time, MOST_LOWERED * now / falls, 1 / steep if steep > 0 else math.inf)
        for _ in range(HALVINGS):
            following = loss.relative(f + h * moved)
            if following < now:
                break
            h /= 2
        else:
            break
        ends = target is not None and following <= target
        if ends:
            h = crossing(lambda at, f=f, d=moved: loss.relative(f + at * d), h, target or 0.0)
            following = target or 0.0
        a, change, time, now = a + h * down, change + h * moved, time + h, following
        if ends or time >= longest:
            return Flow(change, a, time, now, ends)
    return Flow(change, a, time, now, reached=False)


def crossing(at: Callable[[float], float], step: float, target: float) -> float:
    """The part of a step after which the loss is `target`: it is above it before, and not above it after."""
    low, high = 0.0, step
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) > target else (low, middle)
    return high
