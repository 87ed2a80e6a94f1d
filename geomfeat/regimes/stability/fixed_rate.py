"""What gradient descent at a fixed rate does: flow, catapult, the edge of stability, or divergence.

A quadratic loss of curvature lambda diverges above eta = 2 / lambda. Networks need not: a wide one between 2 / lambda
and about 4 / lambda is thrown out of its basin, its loss rises and its curvature falls until 2 / eta is above it, and
it converges (catapult: Lewkowycz et al. 2020); below 2 / lambda curvature often grows until it hovers at 2 / eta, where
the loss falls with rises in between (edge of stability: Cohen et al. 2021).
"""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.charts import Plot
from geomfeat.display import BaseResult, PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.models.functional import Functional, Readout, functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.numerics import WORKING, require_finite
from geomfeat.regimes.stability.hessian_spectrum import sharpness
from geomfeat.regimes.training.class_targets import as_classes
from geomfeat.regimes.training.objective import Loss, loss_of, prepared_targets, require_gradient

PHASES = ("diverged", "catapult", "edge of stability", "flow")
EDGE = (0.9, 1.3)  # sharpness over 2 / eta that counts as hovering at the edge
RISING_SHARE = 0.02  # share of the later steps that raise the loss at the edge; few do so at its start
ROUNDING = 1e-16  # loss over the first below which rises are rounding, of a network that fits its targets
EARLY = 0.5  # a catapult's highest loss lies in this share of the training


@dataclass(frozen=True, eq=False)
class FixedRateDescent(PlottableResult):
    """Gradient descent at a fixed raw rate.

    Attributes:
        losses: at steps 0, 1, 2, ..., up to the first that is not finite. sharpness: step -> largest eigenvalue of the
            loss's Hessian. lr: eta. model: copy in float64 with the last weights, also where they are not finite.

    `to_frame()`: one row for each step: step, loss, sharpness (NaN where it was not measured), lr.
    """

    losses: tuple[float, ...]
    sharpness: Mapping[int, float]
    lr: float
    model: nn.Module

    def _columns(self) -> dict[str, Any]:
        steps = range(len(self.losses))
        sharpness = [self.sharpness.get(step, math.nan) for step in steps]
        return {"step": list(steps), "loss": list(self.losses), "sharpness": sharpness, "lr": self.lr}

    def _chart(self) -> Plot:
        steps = range(len(self.losses))
        return line_chart(f"descent at rate {self.lr:.3g}", "step", "loss", steps, self.losses, log_y=True)

    def __str__(self) -> str:
        end = f"loss {self.losses[0]:.3g} to {self.losses[-1]:.3g}"
        return f"FixedRateDescent at rate {self.lr:.3g}: {len(self.losses) - 1} steps, {end}"


@dataclass(frozen=True)
class StabilityReport(BaseResult):
    """What a training at a fixed rate did.

    Attributes:
        phase: "diverged", "catapult", "edge of stability" or "flow": the first that holds. flags: all that do.
        highest: largest loss over the first (infinity if one was not finite). last: last loss over the first.
        rises: share of the steps after the loss's peak that raised the loss.
        start, end: sharpness times eta / 2, first and median of the last third; above 1 is unstable. NaN where unknown.
    """

    phase: str
    flags: frozenset[str]
    highest: float
    last: float
    rises: float
    start: float
    end: float


def training_flags(losses: Sequence[float], sharpness: Mapping[int, float], lr: float) -> StabilityReport:
    """The phase of a training, from its losses and its sharpness at some steps.

    Args:
        losses: one per step, the loss before the first step included. sharpness: step -> largest Hessian eigenvalue of
            the same loss; may be empty, then catapults go by the loss alone and the edge is not seen.
        lr: the raw rate eta of w -= eta dL/dw.

    diverged: not finite, or the last loss is above the first. catapult: the loss rises above its first value early,
    ends below it, and the sharpness, above 2 / eta at the start, ends below. edge of stability: the sharpness began
    below 2 / eta, and in the last third its median is at 0.9 to 1.3 of it while the loss falls with rises in between.

    Raises BadInput for fewer than two losses, a rate that is not positive, or sharpness at steps that were not taken.

    >>> training_flags([1.0, 0.5, 0.25], {0: 1.0, 2: 1.0}, 0.3).phase
    'flow'
    >>> training_flags([1.0, 4.0, 0.5, 0.1], {0: 3.0, 2: 1.0, 3: 1.0}, 1.0).phase
    'catapult'
    >>> training_flags([1.0, 4.0, 16.0], {}, 1.0).phase
    'diverged'
    """
    if len(losses) < 2 or not losses[0] > 0:
        raise BadInput("losses must be at least two, of which the first is positive")
    if not (lr > 0 and math.isfinite(lr)):
        raise BadInput(f"lr={lr} must be positive")
    if any(not 0 <= step < len(losses) for step in sharpness):
        raise BadInput(f"sharpness is given at steps {sorted(sharpness)}, but there are losses of {len(losses)} steps")
    finite = all(math.isfinite(v) for v in losses)
    highest = max(losses) / losses[0] if finite else math.inf
    last = losses[-1] / losses[0] if finite else math.inf
    peak = max(range(len(losses)), key=lambda i: losses[i]) if finite else 0
    steps = len(losses) - 1
    ratio = {step: value * lr / 2 for step, value in sorted(sharpness.items())}
    later = sorted(v for step, v in ratio.items() if step >= 2 * steps / 3)
    start = next(iter(ratio.values()), math.nan)
    end = later[len(later) // 2] if later else math.nan
    floor = ROUNDING * losses[0]
    rises = _rises(losses[peak:], floor)
    window = losses[2 * steps // 3 :]
    flags = set()
    if last > 1:
        flags.add("diverged")
    elif highest > 1 and peak <= EARLY * steps and not start <= 1 and not end > 1:
        flags.add("catapult")
    if last < 1 and start < 1 and EDGE[0] <= end <= EDGE[1] and _rises(window, floor) > RISING_SHARE:
        flags.add("edge of stability")
    flags = flags or {"flow"}
    phase = next(p for p in PHASES if p in flags)
    return StabilityReport(phase, frozenset(flags), highest, last, rises, start, end)


def _rises(losses: Sequence[float], floor: float) -> float:
    """Share of the steps that raise the loss by more than rounding."""
    pairs = list(itertools.pairwise(losses))
    # 1e-9: a loss that rests still moves in its last digits.
    return sum(b > a * (1 + 1e-9) and b > floor for a, b in pairs) / max(1, len(pairs))


def descend_at_rate(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    lr: float,
    steps: int,
    gamma: float = 1.0,
    centered: bool = True,
    loss: Loss = "mse",
    sharpness_every: int = 0,
    readout: Readout | None = None,
) -> FixedRateDescent:
    """Plain full-batch gradient descent w -= lr dL/dw in float64, with the loss of every step.

    Args:
        lr: raw eta. gamma: f = (net(w) - net(w0)) / gamma; centered=False leaves net(w0) in.
        loss: as in `sharpness`, plain. sharpness_every: steps between two evaluations of the sharpness; 0: none.

    Stops at the first loss that is not finite. Raises BadInput for settings out of range and targets that do not fit.

    >>> net, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)  # L = (w - 3)^2 from w0: curvature 2
    >>> run = descend_at_rate(net, x, 3 * x, lr=1.01, steps=50, sharpness_every=10)
    >>> training_flags(run.losses, run.sharpness, run.lr).phase
    'diverged'
    """
    if not (lr > 0 and math.isfinite(lr)) or steps < 1 or sharpness_every < 0:
        raise BadInput(f"lr={lr} must be positive, steps={steps} at least 1, sharpness_every={sharpness_every} >= 0")
    if not (gamma > 0 and math.isfinite(gamma)):
        raise BadInput(f"gamma={gamma} must be a positive number")
    f = functional(model, readout=readout)
    x, goal = f.inputs(inputs), as_goal(targets, "targets").to(f.device)
    if n_samples(x) != goal.shape[0]:
        raise BadInput(f"targets have {goal.shape[0]} entries, but inputs {n_samples(x)} samples")
    with torch.no_grad():
        start = require_finite(f(f.theta, x), "the network's outputs on the inputs")
    ready = prepared_targets(as_classes(goal, start.shape[1]), loss, start.shape[1], WORKING)
    require_gradient(start, ready, loss)
    shift = start if centered else torch.zeros_like(start)
    theta = {name: value.clone().requires_grad_() for name, value in f.theta.items()}
    losses: list[float] = []
    curvature: dict[int, float] = {}
    vector = None
    for step in range(steps + 1):
        value = loss_of((f(theta, x) - shift) / gamma, ready, loss)
        losses.append(float(value.detach()))
        if not math.isfinite(losses[-1]):
            break
        if sharpness_every and step % sharpness_every == 0:
            found = sharpness(_at(f, theta), inputs, targets, loss=loss, initial=f.model if centered else None,
                              gamma=gamma, rtol=1e-3, readout=readout, start=vector)  # fmt: skip
            curvature[step], vector = found.top, found.vectors[:, 0]
        if step < steps:
            slopes = torch.autograd.grad(value, list(theta.values()), allow_unused=True, materialize_grads=True)
            with torch.no_grad():
                for weight, slope in zip(theta.values(), slopes, strict=True):
                    weight -= lr * slope
    return FixedRateDescent(tuple(losses), curvature, lr, _at(f, theta))


def _at(f: Functional, theta: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network with these weights."""
    out = copy.deepcopy(f.model)
    named = dict(out.named_parameters())
    with torch.no_grad():
        for name, value in f.stored(theta).items():
            named[name].copy_(value)
    return out
