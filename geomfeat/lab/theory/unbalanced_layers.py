"""Closed forms of networks of one hidden layer whose two layers start at different sizes.

The linear one starts at w Q1 and a Q2', [Q1 Q2] of orthonormal columns: at a map of zero, with the tangent kernel
(a^2 + w^2) I on whitened inputs. Each mode of the target then grows by a flow of its own, a pair of exponentials in the
sum and the difference of its two vectors (Domine et al. 2024, for layers outside of each other's span).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.location.kernel_demand import CHANGED
from geomfeat.numerics import WORKING
from geomfeat.regimes.linearization.response import respond

SHARE = 0.01  # of the change that is left when the linear response stops
LEARNED = 1 - math.sqrt(SHARE)


@dataclass(frozen=True)
class Place:
    """Demand R, kernel demand kappa, relative change of the tangent kernel, linearisation gap."""

    richness: float
    kernel_demand: float
    kernel_change: float
    gap: float


def orthogonal_start(w: Tensor, a: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (networks, hidden, d) and (networks, d, hidden) of sizes w and a, from orthonormal columns q (h, 2 d)."""
    d = q.shape[1] // 2
    return w[:, None, None] * q[:, :d], a[:, None, None] * q[:, d:].mT


def orthogonal_place(w: float, a: float, modes: Tensor) -> Place:
    """Where the linear network ends that has learned a target of these singular values (d of them, d in- and outputs).

    Mode i of strength s grows for T = asinh(2 s / k) / 2 with k = a^2 + w^2, and adds k sinh(T)^2 to both layers'
    Grams: the change of the kernel depends on k alone. The linear response adds (q s / k)^2 times a^2 and w^2.

    >>> orthogonal_place(1.0, 1.0, torch.ones(3)).gap < orthogonal_place(0.5, 0.5, torch.ones(3)).gap
    True
    """
    s = modes.to(WORKING)
    d, k = len(s), a * a + w * w
    second, fourth = float(s.square().sum()), float(s.pow(4).sum())
    time = torch.asinh(2 * s / k) / 2
    grown = k * time.sinh().square()
    by_response = LEARNED**2 * math.sqrt(d * (a**4 + w**4) * fourth + 2 * (a * w * second) ** 2) / k**2
    return Place(
        richness=math.log10(LEARNED * a * math.sqrt(second / d) / (k * w)),
        kernel_demand=0.5 * math.log10(by_response / (CHANGED * k * d)),
        kernel_change=math.sqrt(2 * d * float(grown.square().sum()) + 2 * float(grown.sum()) ** 2) / (k * d),
        gap=math.sqrt(float((s * (1 - 1 / time.cosh())).square().sum()) / second),
    )


def one_mode_kernel_demand(w: float, a: float, change: float) -> float:
    """Kernel demand of f = a w x towards another slope.

    K(s) - K(0) = 4 m z + z^2 with z = s |change| q / k, m = a w sign(change) / k and k = a^2 + w^2 the kernel: the
    smallest z at which its size is .2 k. A mode that is first unlearned (m < 0) crosses earlier, on its way down.
    """
    k = a * a + w * w
    m = a * w * math.copysign(1, change) / k
    z = -2 * m + math.sqrt(4 * m * m + CHANGED)
    if m < 0 and 4 * m * m >= CHANGED:
        z = min(z, 2 * abs(m) - math.sqrt(4 * m * m - CHANGED))
    return math.log10(LEARNED * abs(change) / (k * z))


def wide_relu_demand(w: float, a: float, x: Tensor, change: Tensor) -> float:
    """R of an infinitely wide ReLU layer: units of read-in norm w in all directions, read-out +- a, shared out equally.

    Two units in directions at angle t are on together in a share (pi - t) / 2 pi, and their products average
    (sin t + (pi - t) cos t) / (2 pi d) (Cho and Saul 2009, on the sphere).

    Args:
        x: (n, d). change: (n,).
    """
    size = x.norm(dim=1)
    cosine = (x @ x.mT / size[:, None] / size).clamp(-1, 1)
    angle = cosine.arccos()
    together = (math.pi - angle) / (2 * math.pi)
    product = size[:, None] * size * (angle.sin() + (math.pi - angle) * cosine) / (2 * math.pi * x.shape[1])
    kernel = a * a * together * (x @ x.mT) + w * w * product
    c = respond(kernel, change, [SHARE])[0].coefficients
    moved = a * a * float((c[:, None] * c * together * (x @ x.mT @ x @ x.mT)).sum())
    return 0.5 * math.log10(moved / (w * w * float(size.square().sum()) / x.shape[1]))
