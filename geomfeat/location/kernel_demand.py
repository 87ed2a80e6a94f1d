"""Kernel demand: by what factor the learned change exceeds the largest one for which the tangent kernel stays put.

Let Dtheta be the linear response to the change that training made (`regimes/linearization/response.py`) and K(s) the
tangent kernel of all outputs at theta0 + s Dtheta. The network is linear along Dtheta for as long as K(s) is K(0):

    kappa = -log10 s*,       s* the smallest s > 0 with |K(s) - K(0)|_F = .2 |K(0)|_F.

This is the criterion of Chizat et al. (2019, section 1.2), measured instead of bounded by second derivatives: lazy for
kappa << 0, where the kernel would stay put for a change many times as large. Only the part of the kernel that acts on
the target counts for what is learned, so the same is asked of K(s) a, with Dtheta = D J' a:

    kappa_a = -log10 s*,     s* the smallest s > 0 with |(K(s) - K(0)) a| = .5 |K(0) a|.

The shares .2 and .5 were chosen among others: below, one ReLU that switches is seen; above, some networks never get
there. A cosine in place of the difference would saturate, and hide that a kernel grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.location.kernel_forms import kernel_product
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.numerics import WORKING
from geomfeat.tangent import ntk
from geomfeat.tangent.jacobians.small_steps import AnyDirection, moved_along

CHANGED, CHANGED_ON_TARGET = 0.2, 0.5
# The change of a kernel grows as s (its derivative along Dtheta) or s^2 (where that vanishes), and as other powers in
# between; a slope outside of these limits is one of noise or of a kink.
FLATTEST, STEEPEST = 0.5, 4.0
MOST_STEPS, PRECISION = 30, 1e-3  # of log10 s
FLAT_STEP = 0.25  # decades of s, doubled with every further step
FURTHEST = 8.0  # decades of s, up and down, within which the crossing is sought
HALF, BLIND = math.log10(2), 2.0
# Decades below a crossing that count as half the way, where a kernel is known there. Of two weights that shrink first
# (in closed form) the kernel has changed by more than the share there, unless it hardly reaches the share before.
ABOUT_HALF = 0.28, 0.5


@dataclass(frozen=True, eq=False)
class KernelDemand:
    """Kernel demand along one linear response.

    Attributes:
        demand: kappa, decades; -inf for a kernel that cannot change along the response (only the read-out is free).
        at_response: K1 = log10(|K(1) - K(0)|_F / |K(0)|_F): the kernel's change at the response itself; NaN where the
            search began elsewhere.
        slope: of log10 of the change over log10 s, at the crossing. steps: kernels that were computed.
    """

    demand: float
    at_response: float
    slope: float
    steps: int

    @property
    def finite(self) -> bool:
        """Whether the kernel changes along the response."""
        return math.isfinite(self.at_response)


KernelAt = Callable[[Functional], Tensor]


def kernel_demand(
    f: Functional,
    inputs: Any,
    direction: Mapping[str, Tensor],
    *,
    kernel: KernelAt | None = None,
    precision: float = PRECISION,
    start: Tensor | None = None,
    near: KernelDemand | None = None,
) -> KernelDemand:
    """Kernel demand of a network on probes.

    Args:
        f: at theta0, in coordinates in which training is gradient flow (`Functional.scaled`).
        inputs: n probes. direction: Dtheta, name -> tensor.
        kernel: in what form it is compared where it is too large to be formed, see `compact_kernel`; default: formed.
        precision: of the result, decades. start: the kernel at theta0, if it is known.
        near: the demand of much the same network and probes; the search begins there, and mostly ends at its first
            kernel.

    >>> from geomfeat.models.functional import functional
    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)).double()
    >>> for p in net.parameters(): _ = torch.nn.init.ones_(p)
    >>> f = functional(net)  # a w x with a = w = x = 1: K(s) = 2 (1 + s / 2)^2 along (1, 1) / 2
    >>> found = kernel_demand(f, torch.ones(1, 1), {name: p / 2 for name, p in f.theta.items()}, precision=1e-9)
    >>> abs(10**-found.demand - 2 * (1.2**0.5 - 1)) < 1e-8
    True
    """
    inputs = f.inputs(inputs)
    formed = lambda at: ntk(at, inputs, outputs="full").gram.to(WORKING)  # noqa: E731
    return _reach(kernel or formed, f, direction, CHANGED, precision, start, near)


def demand_on_target(
    f: Functional,
    inputs: Any,
    direction: AnyDirection,
    coefficients: Tensor,
    *,
    precision: float = PRECISION,
    start: Tensor | None = None,
    near: KernelDemand | None = None,
    guess: KernelDemand | None = None,
    rough: bool = False,
) -> KernelDemand:
    """kappa_a: the demand on the part of the kernel that acts on the target, by products alone.

    Args:
        direction: Dtheta = J' a, or what returns it anew. coefficients: (n, C) a. start: (n, C) J Dtheta, if it is
            known. rough: of the products, see `jvp`. guess: a first idea of the demand; the search begins at half of
            its s, which is to be looked at in any case. Others as in `kernel_demand`.
    """
    inputs = f.inputs(inputs)
    a = coefficients.to(f.device, f.dtype).reshape(n_samples(inputs), -1)
    return _reach(
        lambda at: kernel_product(at, inputs, a, rough=rough), f, direction, CHANGED_ON_TARGET, precision, start, near,
        guess,
    )  # fmt: skip


def _reach(
    kernel: KernelAt,
    f: Functional,
    direction: AnyDirection,
    share: float,
    precision: float,
    start: Tensor | None = None,
    near: KernelDemand | None = None,
    guess: KernelDemand | None = None,
) -> KernelDemand:
    steps = 0 if start is not None else 1
    start = kernel(f) if start is None else start
    size = float(start.norm())
    # Differences of two kernels below this are rounding of the kernels themselves.
    rounding = 64 * torch.finfo(f.dtype).eps
    seen: dict[float, float] = {}

    def change(log_s: float) -> float:
        """log10 of the relative change; -inf where it is rounding."""
        nonlocal steps
        steps += 1
        s = 10**log_s
        theta = moved_along(f.theta, direction, s)
        moved = float((kernel(f.at({**f.theta, **theta})) - start).norm()) / size
        seen[log_s] = math.log10(moved) if moved > rounding else -math.inf
        return seen[log_s]

    goal = math.log10(share)
    if near is not None and math.isfinite(near.demand):
        found, slope = _crossing(change, -near.demand, change(-near.demand), goal, precision, slope=near.slope)
        return KernelDemand(-found, math.nan, slope, steps)
    began, slope = 0.0, 1.0
    if guess is not None and math.isfinite(guess.demand):
        began, slope = -guess.demand - HALF, guess.slope
    found, slope = _crossing(change, began, change(began), goal, precision, slope=slope)
    # A kernel that shrinks before it grows crosses earlier, and is back near its start on about half the way.
    while math.isfinite(found):
        known = [log_s for log_s in seen if ABOUT_HALF[0] <= found - log_s <= ABOUT_HALF[1]]
        half = max(known, default=found - HALF)
        at_half = seen[half] if known else change(half)
        if at_half < goal:
            break
        found, slope = _crossing(change, half, at_half, goal, precision, below_this=True)
    return KernelDemand(-found, seen.get(0.0, math.nan), slope, steps)


def _crossing(
    change: Callable[[float], float],
    x: float,
    y: float,
    goal: float,
    precision: float,
    *,
    below_this: bool = False,
    slope: float = 1.0,
) -> tuple[float, float]:
    """(log10 s at which the change is `goal`, slope there), by the secant rule between ends that hold the crossing.

    inf for none. Starts at x, where the change is y; `below_this` looks at smaller s only. In a double logarithmic plot
    the change of a smooth kernel is nearly straight. One of ReLUs that have all switched rests for decades, often close
    to the goal: there steps grow until it is past.
    """
    low, high, stride = -math.inf, x if below_this else math.inf, 0.0
    for _ in range(MOST_STEPS):
        if y < goal:
            low = x
        else:
            high = x
        # A change that is too small to be seen has no slope: up until it can be.
        step = BLIND if y == -math.inf else (goal - y) / slope
        step = max(step, stride) if y < goal else step
        if abs(step) <= precision:
            return x + step, slope
        if abs(x) == FURTHEST and abs(x + step) > FURTHEST:
            return math.copysign(math.inf, x), slope
        following = min(max(x + step, -FURTHEST), FURTHEST)
        if not low < following < high:
            following = (low + high) / 2
        value = change(following)
        if math.isfinite(y) and math.isfinite(value):
            found = (value - y) / (following - x)
            # Between two ends the secant is trusted: a kernel that comes back past its start crosses more steeply.
            slope = max(found, FLATTEST) if low > -math.inf and high < math.inf else min(max(found, FLATTEST), STEEPEST)
            stride = max(FLAT_STEP, 2 * stride) if found < FLATTEST and value < goal and high == math.inf else 0.0
        x, y = following, value
    return (low + high) / 2, slope
