"""Slow definitions for separability after projection: a linear programme per dichotomy and dimension, and counting."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linprog


def separable(x: np.ndarray, sign: np.ndarray, bias: bool = False) -> bool:
    """Is there a w (and b) with sign (x @ w + b) > 0? Without bias, points at the origin are left out."""
    if not bias:
        x, sign = x[(x != 0).any(1)], sign[(x != 0).any(1)]
    if not len(x):
        return True
    scale = np.abs(x).max() or 1.0
    k, n = x.shape
    columns = np.c_[x / scale, np.ones(k) if bias else np.zeros(k)] * sign[:, None]
    found = linprog(
        np.r_[np.zeros(n + 1), -1.0],
        A_ub=np.c_[-columns, np.ones(k)],
        b_ub=np.zeros(k),
        bounds=[(-1, 1)] * (n + 1) + [(None, 1)],
        method="highs",
    )
    return -found.fun > 1e-8


def critical_dimension(x: np.ndarray, sign: np.ndarray, noise: np.ndarray, bias: bool = False) -> float:
    """Fewest columns of noise (r, n) after which x @ noise is separable, by trying 0, 1, 2, ... of them."""
    if bias and len(set(sign)) == 1:
        return 0.0
    for n in range(1, noise.shape[1] + 1):
        if separable(x @ noise[:, :n], sign, bias):
            return float(n)
    return math.inf


def cover(n_points: int, n: int) -> float:
    """Share of separable labellings of points in general position in n dimensions (Cover 1965)."""
    return 2.0 ** (1 - n_points) * sum(math.comb(n_points - 1, k) for k in range(n))


def segment_volumes(n_manifolds: int, radius: float) -> np.ndarray:
    """Intrinsic volumes of the cone of orthogonal segments +-R around unit centres.

    The cone of one is a wedge of half-angle atan R, with volumes 1/2 - a, 1/2, a, where a = atan(R) / pi; those of the
    product are their convolution.
    """
    a = math.atan(radius) / math.pi
    v = np.ones(1)
    for _ in range(n_manifolds):
        v = np.convolve(v, [0.5 - a, 0.5, a])
    return v


def segment_shares(n_manifolds: int, radius: float) -> np.ndarray:
    """Share separable at 0, 1, ..., 2P dimensions: twice every other volume."""
    v = segment_volumes(n_manifolds, radius)
    return np.array([2 * sum(v[n - i] for i in range(1, n + 1, 2)) for n in range(len(v))])


def half_crossing(share: np.ndarray) -> float:
    """Where shares at 0, 1, 2, ... cross 1/2, interpolated."""
    n = int(np.flatnonzero(share >= 0.5)[0])
    return n - 1 + (0.5 - share[n - 1]) / (share[n] - share[n - 1])
