"""Descent that follows the flow: step size from the curvature, back-off when the loss rises, exact stop.

One loop for full-batch gradient descent, judged after every step; one for minibatches and every other optimizer,
judged after every epoch. What is judged is the relative loss plus the penalty of weight decay; the target is of the
loss alone.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.functional import differentiable_attention
from geomfeat.numerics import stream
from geomfeat.regimes.training.objective import Objective
from geomfeat.regimes.training.optimizers import Adam, Foreign, Momentum, StepSize
from geomfeat.regimes.training.options import TrainOptions
from geomfeat.regimes.training.raw_rates import plain_rates, rates_of_rule
from geomfeat.tangent.optimizer_rates import OptimizerRates

CURVATURE_EVERY = 25  # steps between two estimates of the curvature, each as costly as two or three gradients
MOST_BACKOFFS = 60  # halvings of the step before giving up: 18 orders of magnitude
NOISE_ALLOWED = 1.2  # factor by which the loss may rise over an epoch of minibatches or Adam without being divergence
STALLED = 1e-7  # relative decrease of the loss between two curvature estimates that counts as none
STOP_WITHIN = 0.01  # largest relative distance below the target loss at the end


@dataclass
class Path:
    """Where a descent is: displacement, loss, and what it has done so far.

    `rates_now` gives the rates of the raw weights now; `rates` holds them for the steps of `snapshots`.
    """

    u: Tensor
    loss: float
    lr: float
    steps: int = 0
    backoffs: int = 0
    note: str = ""
    converged: bool = False
    diverged: bool = False
    history: list[tuple[int, float]] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)
    rates: dict[int, OptimizerRates] = field(default_factory=dict)
    rates_now: Callable[[], OptimizerRates] | None = None

    def record(self, wanted: frozenset[int]) -> None:
        """Append this step to the history, and keep it if it is wanted."""
        self.history.append((self.steps, self.loss))
        if self.steps in wanted:
            self.keep(self.steps, self.u)

    def keep(self, step: int, u: Tensor) -> None:
        """Keep a copy of a step's displacement, and its rates."""
        self.snapshots[step] = u.clone()
        found = self.last_rates() if step else None
        if found is not None:
            self.rates[step] = found

    def last_rates(self) -> OptimizerRates | None:
        """The rates now; None where they are not known: no step was made, or an optimizer holds no numbers."""
        if self.rates_now is None:
            return None
        with suppress(BadInput):
            return self.rates_now()
        return None


@dataclass(frozen=True, eq=False)
class Settings:
    """How to descend. `lr` None: eta0 = c / largest curvature, re-estimated as it changes.

    wanted: steps of which to save a copy. factors: on the learning rate of a torch optimizer, by parameter.
    """

    target_loss: float | None
    max_steps: int
    lr: float | None
    options: TrainOptions
    seed: int = 0
    wanted: frozenset[int] = frozenset()
    progress: Callable[[int, float], None] | None = None
    factors: Mapping[str, float] = field(default_factory=dict)

    def reached(self, loss: float) -> bool:
        """Whether the target loss is reached."""
        return self.target_loss is not None and loss <= self.target_loss


def cut_at(problem: Objective, before: Tensor, after: Tensor, loss: float, target: float) -> tuple[Tensor, float]:
    """The point between `before` (loss above target) and `after` (loss <= target) whose loss is within 1 % below it."""
    # Networks are compared at equal loss, so the last step must not overshoot by an amount that depends on gamma.
    low, high = 0.0, 1.0
    u = after
    for _ in range(20):
        if target * (1 - STOP_WITHIN) <= loss <= target:
            break
        middle = 0.5 * (low + high)
        there = torch.lerp(before, after, middle)
        value = problem.value(there)
        if value <= target:
            high, u, loss = middle, there, value
        else:
            low = middle
    return u, loss


def descend(problem: Objective, settings: Settings) -> Path:
    """Descend from u = 0 until the target loss or `max_steps`; always ends at the last good point."""
    u = problem.zero()
    path = Path(u, problem.value(u), 0.0)
    path.record(settings.wanted)
    full = settings.options.optimizer == "sgd" and settings.options.batch_size is None
    with differentiable_attention():
        (_descend_full if full else _descend_by_epoch)(problem, settings, path)
    if not path.converged and not path.note and settings.target_loss is not None:
        path.note = (
            f"relative loss {path.loss:.3g} after {path.steps} steps, above target_loss={settings.target_loss:g}: "
            "raise max_steps"
        )
    path.converged = path.converged or (settings.target_loss is None and not path.note)
    # An epoch that was taken back has left copies of steps that never were.
    path.snapshots = {step: u for step, u in path.snapshots.items() if step <= path.steps}
    return path


def _descend_full(problem: Objective, settings: Settings, path: Path) -> None:
    """Full-batch gradient descent with Nesterov momentum, restarted whenever it would raise the loss.

    A rise with momentum restarts it (O'Donoghue and Candes 2015, function scheme); a rise without it halves the step.
    So the loss falls monotonically, and where momentum is 0 this is plain gradient descent.
    """
    step_size = StepSize(problem, settings.lr, 1.0)
    path.rates_now = lambda: plain_rates(problem, step_size.value)
    loss, slope = problem.gradient(path.u)
    standing = loss + problem.penalty(path.u)
    velocity, refresh_at, checked = torch.zeros_like(path.u), 0, math.inf
    while path.steps < settings.max_steps and not path.converged:
        if path.steps >= refresh_at:
            # Without back-off the loss may rise, as in a catapult: that is no stall.
            still = abs(standing - checked) <= STALLED * checked
            if settings.target_loss is not None and path.steps > CURVATURE_EVERY and still:
                path.note = (
                    f"stalled: the relative loss stays at {loss:.4g}; the model may be unable to fit the targets"
                )
                break
            checked = standing
            step_size.refresh(path.u)
            refresh_at = path.steps + min(CURVATURE_EVERY, max(1, path.steps // 2))
        moving = settings.options.momentum * velocity + slope
        u = path.u - step_size.limited(slope + settings.options.momentum * moving, path.u)
        new_loss, new_slope = problem.gradient(u)
        new_standing = new_loss + problem.penalty(u)
        if not new_standing <= standing and settings.options.back_off:
            # Momentum is the first suspect: without it a small enough step lowers the loss.
            if bool(velocity.any()):
                velocity = torch.zeros_like(velocity)
                continue
            step_size.halve()
            path.backoffs += 1
            if path.backoffs >= MOST_BACKOFFS:
                path.note = f"no step lowers the relative loss below {loss:.3g}: it is at a minimum"
                break
            continue
        if not math.isfinite(new_standing):
            path.diverged = True
            path.note = (
                f"diverged at step {path.steps + 1}: lower lr, or leave back_off on; the last finite point is returned"
            )
            break
        before = path.u
        velocity, slope, loss, standing = moving, new_slope, new_loss, new_standing
        path.u, path.loss, path.lr, path.steps = u, loss, step_size.value, path.steps + 1
        _finish_step(problem, settings, path, before)


def _finish_step(problem: Objective, settings: Settings, path: Path, before: Tensor) -> None:
    if settings.reached(path.loss):
        assert settings.target_loss is not None
        path.u, path.loss = cut_at(problem, before, path.u, path.loss, settings.target_loss)
        path.converged = True
    path.record(settings.wanted)
    if settings.progress is not None:
        settings.progress(path.steps, path.loss)


def _descend_by_epoch(problem: Objective, settings: Settings, path: Path) -> None:
    """Minibatches, or another optimizer: steps in blocks of one epoch, judged on all samples after each."""
    n = problem.targets.shape[0]
    size = min(settings.options.batch_size or n, n)
    rule = _rule(problem, settings)
    path.rates_now = lambda: rates_of_rule(problem, rule)
    generator = stream(settings.seed, "minibatches")
    best, refresh_at = path.loss + problem.penalty(path.u), 0
    while path.steps < settings.max_steps and not path.converged:
        if path.steps >= refresh_at:
            rule.step_size.refresh(path.u)
            refresh_at = path.steps + CURVATURE_EVERY
        u, done = path.u, 0
        order = torch.randperm(n, generator=generator).to(u.device)
        for rows in _batches(order, size, problem.mode):
            if path.steps + done >= settings.max_steps:
                break
            u = rule.step(u, partial(problem.gradient, rows=None if size == n else rows))
            done += 1
            if path.steps + done in settings.wanted:
                path.keep(path.steps + done, u)
        loss = problem.value(u)
        standing = loss + problem.penalty(u)
        if settings.options.back_off and not standing <= NOISE_ALLOWED * best:
            rule.step_size.halve()
            rule.forget()
            path.backoffs += 1
            if path.backoffs >= MOST_BACKOFFS:
                path.note = f"no epoch lowers the relative loss below {path.loss:.3g}"
                break
            continue
        if not math.isfinite(standing):
            path.diverged = True
            path.note = (
                f"diverged by step {path.steps + done}: lower lr, or leave back_off on; the last epoch is returned"
            )
            break
        before, best = path.u, min(best, standing)
        path.u, path.loss, path.lr, path.steps = u, loss, rule.step_size.value, path.steps + done
        _finish_step(problem, settings, path, before)


def _batches(order: Tensor, size: int, mode: str) -> list[Tensor]:
    """Samples by batch. A last single one joins the batch before where the batch's own statistics are taken."""
    parts = list(order.split(size))
    if mode == "train" and len(parts) > 1 and len(parts[-1]) == 1 < size:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _rule(problem: Objective, settings: Settings) -> Momentum | Adam | Foreign:
    if callable(settings.options.optimizer):
        return Foreign(problem, settings.options.optimizer, settings.factors)
    return (Adam if settings.options.optimizer == "adam" else Momentum)(problem, settings.lr, settings.options.momentum)
