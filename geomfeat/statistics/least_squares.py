"""A number as a plane over conditions: slopes, interactions, and what the plane leaves over."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from geomfeat.statistics.cluster_bootstrap import Intervals, over_seeds

# A term counts as independent of those before it if this share of its length is new.
NEW = 1e-6


@dataclass(frozen=True, eq=False)
class Design:
    """Columns of a least-squares fit.

    Attributes:
        x: (n, 1 + k) a constant, then the terms. terms: their names, interactions as "a:b".
        dropped: terms that are linear combinations of those before them.
    """

    x: np.ndarray
    terms: tuple[str, ...]
    dropped: tuple[str, ...]


def design_of(coordinates: np.ndarray, axes: Sequence[str], *, interactions: bool = True) -> Design:
    """The terms that these trainings identify: a constant, every axis, and every product of two centred axes.

    Axes are centred at their mean, so that a slope is that in the middle of the grid.

    >>> design_of(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), ["a", "b"]).dropped
    ('a:b',)
    """
    centered = coordinates - coordinates.mean(0)
    wanted = [(a, centered[:, i]) for i, a in enumerate(axes)]
    if interactions:
        wanted += [
            (f"{axes[i]}:{axes[j]}", centered[:, i] * centered[:, j])
            for i, j in itertools.combinations(range(len(axes)), 2)
        ]
    columns, terms, dropped = [np.ones(len(centered))], [], []
    basis = np.ones((len(centered), 1)) / np.sqrt(len(centered))
    for name, column in wanted:
        rest = column - basis @ (basis.T @ column)
        rest -= basis @ (basis.T @ rest)
        length = np.linalg.norm(rest)
        if length <= NEW * max(float(np.linalg.norm(column)), np.finfo(float).tiny):
            dropped.append(name)
            continue
        basis = np.column_stack([basis, rest / length])
        columns.append(column)
        terms.append(name)
    return Design(np.column_stack(columns), tuple(terms), tuple(dropped))


def least_squares(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, p) coefficients for every row of weights (B, n); NaN where a draw does not identify all terms."""
    scale = np.sqrt((x * x).mean(0))
    scaled = x / scale
    moments = np.einsum("bn,np,nq->bpq", weights, scaled, scaled, optimize=True)
    values, vectors = np.linalg.eigh(moments)
    full = values[:, 0] > NEW**2 * values[:, -1]
    inverse = np.where(full[:, None], 1 / np.where(values > 0, values, 1.0), np.nan)
    against = weights @ (scaled * y[:, None])
    return np.einsum("bpk,bk,bqk,bq->bp", vectors, inverse, vectors, against, optimize=True) / scale


def fitted_slopes(
    design: Design, y: np.ndarray, seeds: np.ndarray, *, level: float, seed: int
) -> tuple[Intervals, str]:
    """(Slopes of the terms with intervals, what the intervals come from: "seeds", "residuals" or "none").

    With one seed the interval is that of independent residuals, which also hold the plane's lack of fit.
    """
    found = over_seeds(lambda w: least_squares(design.x, y, w), seeds, level=level, seed=seed)
    kind = "seeds"
    if len(np.unique(seeds)) < 2:
        found, kind = _from_residuals(design.x, y, found.estimate, level)
    else:
        found = _without_lone_seeds(found, design.x, seeds)
    return Intervals(found.estimate[1:], found.stderr[1:], found.low[1:], found.high[1:]), kind


def _without_lone_seeds(found: Intervals, x: np.ndarray, seeds: np.ndarray) -> Intervals:
    """No interval for a slope that a single seed identifies: every draw of seeds that has it would have the same one.

    This happens where trainings are missing, for example if all but one diverged at the largest learning rate.
    """
    scaled = x / np.sqrt((x * x).mean(0))
    columns = np.arange(x.shape[1])
    lone = np.zeros(len(columns), dtype=bool)
    for one in np.unique(seeds):
        rest = scaled[seeds != one]
        moments = rest.T @ rest
        small = NEW * len(x)
        rank = np.linalg.matrix_rank(moments, tol=small, hermitian=True)
        for i in columns:
            kept = np.delete(columns, i)
            lone[i] |= np.linalg.matrix_rank(moments[np.ix_(kept, kept)], tol=small, hermitian=True) == rank
    parts = (np.where(lone, np.nan, v) for v in (found.stderr, found.low, found.high))
    return Intervals(found.estimate, *parts)


def _from_residuals(x: np.ndarray, y: np.ndarray, b: np.ndarray, level: float) -> tuple[Intervals, str]:
    """Student's interval with the variance of the residuals; what a bootstrap of residuals tends to."""
    free = len(y) - x.shape[1]
    if free < 1:
        nothing = np.full_like(b, np.nan)
        return Intervals(b, nothing, nothing, nothing), "none"
    variance = float(((y - x @ b) ** 2).sum()) / free
    stderr = np.sqrt(variance * np.diag(np.linalg.inv(x.T @ x)))
    half = stdtrit(free, 0.5 + level / 2) * stderr
    return Intervals(b, stderr, b - half, b + half), "residuals"


def explained(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """((n,) fitted values of the unweighted fit, the share of the variance that they explain; NaN where y is flat)."""
    fitted = x @ least_squares(x, y, np.ones((1, len(y))))[0]
    spread = float(((y - y.mean()) ** 2).sum())
    # What rounding leaves of a constant: a part in 1e12 of the largest value, in every entry.
    flat = spread <= len(y) * (1e-12 * max(1.0, float(np.abs(y).max()))) ** 2
    return fitted, float("nan") if flat else 1 - float(((y - fitted) ** 2).sum()) / spread
