"""Descent that follows the flow: step size from the curvature, back-off when the loss rises, exact stop.

One loop for gradient descent (with or without Nesterov momentum, full batch or minibatches) and for Adam.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from geomfeat.numerics import stream
from geomfeat.regimes.objective import Objective, top_curvature

CURVATURE_EVERY = 25  # steps between two estimates of the curvature: two or three gradients each
CURVATURE_ROUNDS = (20, 2)  # power iterations at the start, and later from the last vector
LONGEST_STEP = 0.03  # of the weights' norm in one step: the curvature is known only nearby
MOST_BACKOFFS = 60  # halvings of the step before giving up: 18 orders of magnitude
NOISE_ALLOWED = 1.2  # rise of the loss over an epoch of minibatches, or of Adam, that is not yet divergence
STALLED = 1e-7  # relative fall of the loss between two such estimates that counts as none
STOP_WITHIN = 0.01  # relative distance to the target loss at which the last step is cut


@dataclass
class Path:
    """Where a descent is: displacement, loss, and what it has done so far."""

    u: Tensor
    loss: float
    lr: float
    steps: int = 0
    backoffs: int = 0
    note: str = ""
    converged: bool = False
    history: list[tuple[int, float]] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)

    def record(self, wanted: frozenset[int]) -> None:
        """Append this step to the history, and keep its displacement if it is wanted."""
        self.history.append((self.steps, self.loss))
        if self.steps in wanted:
            self.snapshots[self.steps] = self.u.clone()


@dataclass(frozen=True)
class Settings:
    """How to descend. `lr` None: eta0 = c / largest curvature, re-estimated as it changes."""

    target_loss: float | None
    max_steps: int
    lr: float | None
    optimizer: str = "sgd"
    momentum: float = 0.0
    batch_size: int | None = None
    back_off: bool = True
    seed: int = 0
    wanted: frozenset[int] = frozenset()
    progress: Callable[[int, float], None] | None = None

    def reached(self, loss: float) -> bool:
        """Whether the target loss is reached."""
        return self.target_loss is not None and loss <= self.target_loss


class StepSize:
    """eta0 = trust / curvature, the curvature re-estimated along the way; or the given lr, only ever halved."""

    def __init__(self, problem: Objective, lr: float | None, share: float) -> None:
        self.problem, self.given, self.trust = problem, lr, 1.0 if lr is not None else share
        self.share, self.value = share, lr if lr is not None else 0.0
        self.vector: Tensor | None = None
        self.size = math.sqrt(sum(float(w.square().sum()) for w in problem.start.values()))

    def refresh(self, u: Tensor) -> None:
        """Estimate the curvature at u; regain half of the trust that earlier halvings took."""
        if self.given is not None:
            return
        first = self.vector is None
        curvature, self.vector = top_curvature(self.problem, u, self.vector, CURVATURE_ROUNDS[0 if first else 1])
        self.trust = min(self.share, 1.5 * self.trust)
        if curvature > 0 and math.isfinite(curvature):
            self.value = self.trust / curvature
        elif self.value == 0:
            self.value = self.share

    def limited(self, direction: Tensor, u: Tensor) -> Tensor:
        """The step, cut where it would move the weights by more than their own size times LONGEST_STEP."""
        step = self.value * direction
        if self.given is not None:
            return step
        longest = LONGEST_STEP * (self.size / self.problem.gamma + float(u.norm()))
        return step * min(1.0, longest / max(float(step.norm()), 1e-300))

    def halve(self) -> None:
        """After a step that raised the loss."""
        self.trust, self.value = 0.5 * self.trust, 0.5 * self.value


def cut_at(problem: Objective, before: Tensor, after: Tensor, loss: float, target: float) -> tuple[Tensor, float]:
    """The point between `before` (loss above target) and `after` (loss <= target) whose loss is within 1 % below it."""
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
    if settings.optimizer == "sgd" and settings.batch_size is None:
        _descend_full(problem, settings, path)
    else:
        _descend_by_epoch(problem, settings, path)
    if not path.converged and not path.note and settings.target_loss is not None:
        path.note = (
            f"relative loss {path.loss:.3g} after {path.steps} steps, above target_loss={settings.target_loss:g}: "
            "raise max_steps"
        )
    path.converged = path.converged or (settings.target_loss is None and not path.note)
    return path


def _descend_full(problem: Objective, settings: Settings, path: Path) -> None:
    """Full-batch gradient descent with Nesterov momentum, restarted whenever it would raise the loss.

    A rise with momentum restarts it (O'Donoghue and Candes 2015, function scheme); a rise without it halves the step.
    So the loss falls monotonically, and where momentum is 0 this is plain gradient descent.
    """
    step_size = StepSize(problem, settings.lr, 1.0)
    loss, slope = problem.gradient(path.u)
    velocity, refresh_at, checked = torch.zeros_like(path.u), 0, math.inf
    while path.steps < settings.max_steps and not path.converged:
        if path.steps >= refresh_at:
            still = abs(loss - checked) <= STALLED * checked  # without back-off the loss may rise, as in a catapult
            if settings.target_loss is not None and path.steps > CURVATURE_EVERY and still:
                path.note = (
                    f"stalled: the relative loss stays at {loss:.4g}; the model may be unable to fit the targets"
                )
                break
            checked = loss
            step_size.refresh(path.u)
            refresh_at = path.steps + min(CURVATURE_EVERY, max(1, path.steps // 2))
        moving = settings.momentum * velocity + slope
        u = path.u - step_size.limited(slope + settings.momentum * moving, path.u)
        new_loss, new_slope = problem.gradient(u)
        if not new_loss <= loss and settings.back_off:
            if bool(velocity.any()):
                velocity = torch.zeros_like(velocity)
                continue
            step_size.halve()
            path.backoffs += 1
            if path.backoffs >= MOST_BACKOFFS:
                path.note = f"no step lowers the relative loss below {loss:.3g}: it is at a minimum"
                break
            continue
        if not math.isfinite(new_loss):
            path.note = f"diverged at step {path.steps + 1}: lower lr, or leave back_off on; kept the last finite point"
            break
        before = path.u
        velocity, slope, loss = moving, new_slope, new_loss
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
    """Minibatches, or Adam: steps in blocks of one epoch, judged by the loss on all samples after each."""
    n = problem.targets.shape[0]
    size = min(settings.batch_size or n, n)
    rule = _Adam(problem, settings) if settings.optimizer == "adam" else _Momentum(problem, settings)
    generator = stream(settings.seed, "minibatches")
    best, refresh_at = path.loss, 0
    while path.steps < settings.max_steps and not path.converged:
        if path.steps >= refresh_at:
            rule.step_size.refresh(path.u)
            refresh_at = path.steps + CURVATURE_EVERY
        u, done = path.u, 0
        order = torch.randperm(n, generator=generator).to(u.device)
        for rows in order.split(size):
            if path.steps + done >= settings.max_steps:
                break
            _, slope = problem.gradient(u, None if size == n else rows)
            u = rule.step(u, slope)
            done += 1
            if path.steps + done in settings.wanted:
                path.snapshots[path.steps + done] = u.clone()
        loss = problem.value(u)
        if settings.back_off and not loss <= NOISE_ALLOWED * best:
            rule.step_size.halve()
            rule.forget()
            path.backoffs += 1
            if path.backoffs >= MOST_BACKOFFS:
                path.note = f"no epoch lowers the relative loss below {best:.3g}"
                break
            continue
        if not math.isfinite(loss):
            path.note = f"diverged by step {path.steps + done}: lower lr, or leave back_off on; kept the last epoch"
            break
        before, best = path.u, min(best, loss)
        path.u, path.loss, path.lr, path.steps = u, loss, rule.step_size.value, path.steps + done
        _finish_step(problem, settings, path, before)


class _Momentum:
    """Nesterov momentum; plain gradient descent at momentum 0."""

    def __init__(self, problem: Objective, settings: Settings) -> None:
        # Half the full-batch step: single batches are more curved than their mean.
        self.step_size = StepSize(problem, settings.lr, 0.5)
        self.momentum = settings.momentum
        self.forget()

    def forget(self) -> None:
        self.velocity: Tensor | float = 0.0

    def step(self, u: Tensor, slope: Tensor) -> Tensor:
        self.velocity = self.momentum * self.velocity + slope
        return u - self.step_size.value * (slope + self.momentum * self.velocity)


class _Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) on u: the raw weights move by up to gamma * lr a step."""

    def __init__(self, problem: Objective, settings: Settings) -> None:
        default = 1e-3 * min(1.0, 1.0 / problem.gamma)
        self.step_size = StepSize(problem, settings.lr if settings.lr is not None else default, 1.0)
        self.forget()

    def forget(self) -> None:
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0
        self.count = 0

    def step(self, u: Tensor, slope: Tensor) -> Tensor:
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope.square()
        mean = self.first / (1 - 0.9**self.count)
        spread = (self.second / (1 - 0.999**self.count)).sqrt()
        return u - self.step_size.value * mean / (spread + 1e-8 * spread.mean().clamp_min(1e-30))
