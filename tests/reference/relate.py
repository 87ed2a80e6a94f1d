"""Slow definitions of what relates the trainings of a sweep, from numpy and scipy alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.stats import rankdata


def slopes_by_pinv(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares coefficients (without the constant's) by the pseudo-inverse."""
    return (np.linalg.pinv(np.column_stack([np.ones(len(x)), x])) @ y)[1:]


def bootstrap_by_rows(statistic, rows: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Standard error of a statistic of rows: every ordered draw of G seeds, its rows written out."""
    names = np.unique(seeds)
    g = len(names)
    values = np.stack(
        [statistic(np.concatenate([rows[seeds == s] for s in drawn])) for drawn in itertools.product(names, repeat=g)]
    )
    return values.std(0) * math.sqrt(g / (g - 1))


def partial_rank_by_residuals(columns: np.ndarray) -> float:
    """rho of the first two columns given the others: the correlation of what is left of their ranks."""
    ranks = np.stack([rankdata(c) for c in columns.T], axis=1)
    given = np.column_stack([np.ones(len(ranks)), ranks[:, 2:]])
    left = ranks[:, :2] - given @ np.linalg.lstsq(given, ranks[:, :2], rcond=None)[0]
    return float(np.corrcoef(left.T)[0, 1])


def best_segments(y: np.ndarray, x: np.ndarray, penalty: float, least: int) -> tuple[float, tuple[int, ...]]:
    """(cost, first index of every later segment) of the best cut into straight lines, by trying every one of them."""
    n = len(y)
    best = (math.inf, ())
    for count in range(n // least):
        for cuts in itertools.combinations(range(1, n), count):
            ends = [0, *cuts, n]
            lengths = np.diff(ends)
            if lengths.min() < least:
                continue
            cost = penalty * count
            for a, b in itertools.pairwise(ends):
                line = np.column_stack([np.ones(b - a), x[a:b]])
                cost += float(((y[a:b] - line @ np.linalg.lstsq(line, y[a:b], rcond=None)[0]) ** 2).sum())
            if cost < best[0] - 1e-12:
                best = (cost, cuts)
    return best


def match_by_trying(cost: np.ndarray, allowed: np.ndarray) -> tuple[int, float]:
    """(most pairs, their least total cost) of matching rows to columns where allowed, by trying every matching."""
    rows, columns = cost.shape
    best = (0, 0.0)
    for count in range(min(rows, columns), 0, -1):
        found = [
            sum(cost[i, j] for i, j in zip(chosen, order, strict=True))
            for chosen in itertools.combinations(range(rows), count)
            for order in itertools.permutations(range(columns), count)
            if all(allowed[i, j] for i, j in zip(chosen, order, strict=True))
        ]
        if found:
            return count, min(found)
    return best
