"""The slope of a coordinate on what it should follow, and its scatter about a known slope; one offset for each seed."""

from __future__ import annotations

import math

import numpy as np


def slope_and_scatter(
    x: np.ndarray, y: np.ndarray, seeds: np.ndarray, known: float = 1.0
) -> tuple[float, float, float]:
    """(slope of y on x with one offset a seed, its standard error, scatter of y - known x about the offsets).

    >>> x, seeds = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 1])
    >>> slope_and_scatter(x, 2 * x + 5 * seeds, seeds, known=2.0)
    (2.0, 0.0, 0.0)
    """
    for seed in np.unique(seeds):
        own = seeds == seed
        x, y = np.where(own, x - x[own].mean(), x), np.where(own, y - y[own].mean(), y)
    freedom = max(len(x) - 1 - len(np.unique(seeds)), 1)
    slope = float(x @ y / (x @ x))
    error = math.sqrt(float(np.square(y - slope * x).sum()) / freedom / float(x @ x))
    return slope, error, math.sqrt(float(np.square(y - known * x).sum()) / (freedom + 1))
