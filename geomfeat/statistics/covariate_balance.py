"""Whether two groups of trainings fit equally well, and which of them can be paired so that they do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

# Standardized differences of means: up to .25 regression adjusts well (Rubin 2001; Stuart 2010, section 4.1).
BALANCED = 0.25
# A caliper of .2 standard deviations takes away about 98 % of the bias (Austin 2011).
CALIPER = 0.2
# Smaller differences of fit do not matter, however exactly the trainings stopped at their target.
SAME_FIT = {"train_loss": 0.05, "test_loss": 0.05, "train_accuracy": 0.01, "test_accuracy": 0.01}
LOGARITHMIC = ("train_loss", "test_loss")


@dataclass(frozen=True)
class GroupBalance:
    """How far apart two groups are in one number.

    Attributes:
        difference: of the means, in the number's own unit (losses: decades). standardized: in standard deviations
            within the groups; NaN where nothing varies within. overlap: share of both groups that lies in the range
            of the other. balanced: whether the difference is within .25 standard deviations, or does not matter.
    """

    difference: float
    standardized: float
    overlap: float
    balanced: bool


def balance(a: np.ndarray, b: np.ndarray, *, negligible: float = 0.0) -> GroupBalance:
    """How far b is from a in the mean.

    >>> balance(np.array([0.0, 2.0, 4.0]), np.array([4.0, 6.0, 8.0]))
    GroupBalance(difference=4.0, standardized=2.0, overlap=0.3333333333333333, balanced=False)
    """
    difference = float(b.mean() - a.mean())
    spread = _spread(a, b)
    standardized = difference / spread if spread > 0 else 0.0 if difference == 0 else float("nan")
    inside = [np.mean((x >= y.min()) & (x <= y.max())) for x, y in ((a, b), (b, a))]
    close = abs(difference) <= negligible or abs(standardized) <= BALANCED
    return GroupBalance(difference, standardized, float(np.mean(inside)), bool(close))


def caliper(a: np.ndarray, b: np.ndarray, *, negligible: float = 0.0) -> float:
    """The largest difference at which two trainings count as equal: .2 standard deviations, or what is negligible."""
    return max(CALIPER * _spread(a, b), negligible)


def nearest_pairs(distance: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of one-to-one pairs: as many as are allowed, and of those the least total distance >= 0.

    >>> nearest_pairs(np.array([[1.0, 2.0], [0.0, 3.0]]), np.array([[True, True], [True, False]]))
    (array([0, 1]), array([1, 0]))
    """
    if not allowed.any():
        return np.array([], dtype=int), np.array([], dtype=int)
    # One forbidden pair costs more than all allowed ones together, so no allowed pair is given up for a small distance.
    forbidden = 1 + float(distance[allowed].max()) * (1 + min(distance.shape)) * 2
    rows, columns = linear_sum_assignment(np.where(allowed, distance, forbidden))
    kept = allowed[rows, columns]
    return rows[kept], columns[kept]


def _spread(a: np.ndarray, b: np.ndarray) -> float:
    """Root of the mean of the two variances; a group of one has none to give."""
    variances = [x.var(ddof=1) for x in (a, b) if len(x) > 1]
    return float(np.sqrt(np.mean(variances))) if variances else 0.0
