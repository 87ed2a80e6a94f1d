"""Kernel regression by plain solving, each leave-one-out fit done again; and curves over training read off by hand."""

from __future__ import annotations

import numpy as np


def fit_by_solving(gram: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """Coefficients (rows, columns): by the pseudo-inverse, so that singular kernels give the least-norm solution."""
    return np.linalg.pinv(gram + ridge * np.eye(len(gram)), rcond=1e-11, hermitian=True) @ y


def leave_one_out_by_loop(gram: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """(n, C) predictions of each sample by the fit to the others; gram (n, n), or (n C, n C) sample-major."""
    n, c = y.shape
    block = len(gram) // n
    out = np.empty((n, c))
    for i in range(n):
        mine = np.arange(i * block, (i + 1) * block)
        others = np.setdiff1d(np.arange(len(gram)), mine)
        kept = np.delete(y, i, axis=0).reshape(len(others), -1)
        coefficients = fit_by_solving(gram[np.ix_(others, others)], kept, ridge)
        out[i] = (gram[np.ix_(mine, others)] @ coefficients).reshape(-1)
    return out


def angle_by_definition(k: np.ndarray, k0: np.ndarray) -> float:
    """arccos of the uncentred alignment."""
    return float(np.arccos((k * k0).sum() / np.sqrt((k**2).sum() * (k0**2).sum())))


def first_time_by_search(times: np.ndarray, values: np.ndarray, level: float, points: int = 200_001) -> float:
    """First point of a fine grid at which the piecewise linear curve is at or above the level; NaN where none is."""
    grid = np.linspace(times[0], times[-1], points)
    reached = np.interp(grid, times, values) >= level
    return float(grid[reached.argmax()]) if reached.any() else float("nan")
