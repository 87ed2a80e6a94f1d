"""Partial rank correlations with intervals over seeds: Spearman's rho between two numbers with others held fixed."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from geomfeat.statistics.cluster_bootstrap import Intervals, over_seeds

# |rho| above this counts as this on Fisher's scale, on which the errors are symmetric: .9999 is 5.0 there.
MOST = 0.9999
# Fieller, Hartley and Pearson 1957: the variance of Fisher's z of a rank correlation is 1.06 / (n - 3).
FIELLER = 1.06
# A share of a number's variance that is rounding: two ranks that change places among 10 000 make 1e-11.
NOTHING = 1e-12


def midranks(column: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, n) ranks of (n,) values when each row counts (B, n) times, ties at their mean rank.

    >>> midranks(np.array([3.0, 1.0, 3.0]), np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]])).tolist()
    [[2.5, 1.0, 2.5], [2.0, 0.5, 2.0]]
    """
    _, place = np.unique(column, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)
    # The ranks of k equal values end at the cumulated count c: their mean is c - k / 2 + 1 / 2.
    return (np.cumsum(counts, axis=1) - counts / 2 + 0.5)[:, place]


def partial_rank_correlations(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, k) rho between the first of 1 + k columns (n, 1 + k) and every other one, given all the rest.

    From the inverse of the matrix of rank correlations (Whittaker 1990, section 5.8). NaN where a column is flat or
    follows from the others; 0 where those that are held fixed leave nothing of the first column.
    """
    ranks = np.stack([midranks(column, weights) for column in columns.T], axis=2)
    total = weights.sum(1)[:, None]
    ranks = ranks - (weights[:, None] @ ranks) / total[:, None]
    moments = np.einsum("bn,bnp,bnq->bpq", weights, ranks, ranks, optimize=True)
    length = np.sqrt(np.einsum("bpp->bp", moments))
    flat = (length <= 1e-9 * total).any(1)
    safe = np.where(length > 0, length, 1.0)
    correlations = moments / safe[:, :, None] / safe[:, None, :]
    correlations[flat] = np.eye(columns.shape[1])
    values, vectors = np.linalg.eigh(correlations[:, 1:, 1:])
    lost = flat | (values[:, 0] < 1e-9)
    given = np.einsum("bpk,bk,bqk->bpq", vectors, 1 / np.where(values > 1e-9, values, 1.0), vectors, optimize=True)
    # The block inverse, written out, so that a first column that follows from the others is 1 and not 0 / 0.
    first = correlations[:, 1:, 0]
    slopes = np.einsum("bpq,bq->bp", given, first)
    left = np.clip(1 - np.einsum("bp,bp->b", slopes, first), 0.0, None)
    diagonal = np.einsum("bpp->bp", given)
    rest = left[:, None] + slopes**2 / diagonal  # what is left of the first column when one other is not held fixed
    rho = np.where(rest > NOTHING, slopes / np.sqrt(np.maximum(rest, NOTHING) * diagonal), 0.0)
    return np.where(lost[:, None], np.nan, rho)


def with_intervals(
    columns: np.ndarray, seeds: np.ndarray, *, level: float = 0.9, seed: int = 0
) -> tuple[Intervals, str]:
    """(rho of the first column with each other one given the rest, what the intervals come from).

    The bootstrap is on Fisher's scale; "seeds", or with one seed "independent": as if trainings were independent.

    >>> x = np.arange(12.0)
    >>> found, kind = with_intervals(np.stack([x**2, x], axis=1), np.arange(12) % 3)
    >>> round(float(found.estimate[0]), 3), kind
    (1.0, 'seeds')
    """

    # On Fisher's scale errors hardly depend on rho, so an interval of mean and standard error is valid there.
    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.arctanh(np.clip(partial_rank_correlations(columns, weights), -MOST, MOST))

    found, kind = over_seeds(statistic, seeds, level=level, seed=seed), "seeds"
    if len(np.unique(seeds)) < 2:
        free = len(columns) - 3 - (columns.shape[1] - 2)
        error = np.full_like(found.estimate, math.sqrt(FIELLER / free) if free > 0 else np.nan)
        half = ndtri(0.5 + level / 2) * error
        found = Intervals(found.estimate, error, found.estimate - half, found.estimate + half)
        kind = "independent" if free > 0 else "none"
    rho = partial_rank_correlations(columns, np.ones((1, len(columns))))[0]
    # Back from the scale of arctanh: d tanh(z) / dz = 1 - rho^2.
    return Intervals(rho, found.stderr * (1 - rho**2), np.tanh(found.low), np.tanh(found.high)), kind
