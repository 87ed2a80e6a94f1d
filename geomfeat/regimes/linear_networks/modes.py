"""One singular mode of an aligned two-layer linear network, in closed form."""

from collections.abc import Sequence
from math import hypot

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor


def aligned_mode(start: float, target: float, balance: float, times: Sequence[float] | Tensor) -> Tensor:
    """Singular value s(t), (T,), of ds/dt = sqrt(lambda^2 + 4 s^2) (target - s) (Domine et al. 2024; Saxe et al. 2014).

    lambda = 0 is Saxe's sigmoid; |lambda| -> inf is exponential at rate |lambda|. With h = |lambda|/2 and
    y = s + sqrt(s^2 + h^2) it is a Riccati equation, dy/dt = -(y - a)(y - b), a, b = target +- sqrt(target^2 + h^2).
    It goes from y0 to a by the share p = 1 - e^{-kt} / D, D = e^{-kt} + (y0 - b) (1 - e^{-kt})/k, k = a - b. What is
    stepped is z = y - h, which is 0 where s is, so that starts far below lambda lose no digits.

    BadInput for numbers that are not finite, or times below 0.

    >>> [round(float(s), 4) for s in aligned_mode(0.01, 1.0, 0.0, [0, 2, 10])]
    [0.01, 0.3555, 1.0]
    """
    t = as_tensor(times, "times", WORKING)
    if not all(abs(v) < float("inf") for v in (start, target, balance)) or not bool((t >= 0).all()):
        raise BadInput(f"start, target, balance, times must be finite and times >= 0: {start}, {target}, {balance}")
    # Turned so that s starts >= 0: the equation is odd in (s, target).
    sign = -1.0 if start < 0 else 1.0
    start, target, half = sign * start, sign * target, abs(balance) / 2
    root = hypot(target, half)
    # target - root, in the form that does not cancel: the two have the product -half^2.
    low = -half * half / (target + root) if target > 0 else target - root
    rate = 2 * root
    z0, end = _above_half(start, half), _above_half(target, half)
    decay = torch.exp(-rate * t)
    # The integral of exp(-rate t), whose limit at rate 0 is t.
    gained = -torch.expm1(-rate * t) / rate if rate > 0 else t
    over = (z0 + half - low) * gained
    # Nothing moves away from s = 0 at lambda = 0, where both terms of D vanish in time.
    stays = torch.where(over > 0, decay / (decay + over), 1.0)
    gone = torch.where(over > 0, over / (decay + over), 0.0)
    z = stays * z0 + gone * end
    s = z / 2 if half == 0 else z * (z + 2 * half) / (2 * (z + half))
    return sign * s


def _above_half(s: float, half: float) -> float:
    """s + sqrt(s^2 + h^2) - h without the differences that would cancel."""
    root = hypot(s, half)
    if root == 0:
        return 0.0
    total = root + s if s >= 0 else half * half / (root - s)
    return s * (half + total) / (root + half)
