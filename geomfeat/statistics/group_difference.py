"""The difference of a number between two groups of trainings: plain, over pairs, and adjusted by regression."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from geomfeat.statistics.cluster_bootstrap import Intervals, over_seeds
from geomfeat.statistics.least_squares import Design, design_of, fitted_slopes

NOTHING = np.full(1, np.nan)


def plain_difference(y: np.ndarray, second: np.ndarray, seeds: np.ndarray, *, level: float, seed: int) -> Intervals:
    """Mean of the second group minus mean of the first, each of one entry in the result.

    >>> y, second = np.array([1.0, 2.0, 4.0, 5.0]), np.array([False, False, True, True])
    >>> float(plain_difference(y, second, np.array([0, 1, 0, 1]), level=0.9, seed=0).estimate[0].round(6))
    3.0
    """
    design = design_of(second.astype(float)[:, None], ["second"], interactions=False)
    return fitted_slopes(design, y, seeds, level=level, seed=seed)[0]


def paired_difference(differences: np.ndarray, seeds: np.ndarray, *, level: float, seed: int) -> Intervals:
    """Mean (n,) difference of pairs; a pair goes with the seed of its first training. NaN without two pairs."""
    if len(differences) < 2:
        return Intervals(NOTHING, NOTHING, NOTHING, NOTHING)
    if len(np.unique(seeds)) > 1:
        return over_seeds(lambda w: (w @ differences / w.sum(1))[:, None], seeds, level=level, seed=seed)
    n = len(differences)
    mean, error = np.array([differences.mean()]), np.array([differences.std(ddof=1) / np.sqrt(n)])
    half = stdtrit(n - 1, 0.5 + level / 2) * error
    return Intervals(mean, error, mean - half, mean + half)


def adjusted_difference(
    y: np.ndarray, second: np.ndarray, columns: np.ndarray, seeds: np.ndarray, *, level: float, seed: int
) -> Intervals:
    """The difference between the groups at equal columns (n, k), the fit first: the slope of a linear regression.

    NaN where the first column is determined by the group, so that their effects cannot be separated.
    """
    names = ["second", "fit", *(f"x{i}" for i in range(1, columns.shape[1]))]
    design = design_of(np.column_stack([second.astype(float), columns]), names, interactions=False)
    if "fit" in design.dropped and np.ptp(columns[:, 0]) > 0:
        return Intervals(NOTHING, NOTHING, NOTHING, NOTHING)
    if len(y) <= design.x.shape[1]:
        keep = 1 + min(len(design.terms), 2)
        design = Design(design.x[:, :keep], design.terms[: keep - 1], design.dropped)
    found = fitted_slopes(design, y, seeds, level=level, seed=seed)[0]
    return Intervals(found.estimate[:1], found.stderr[:1], found.low[:1], found.high[:1])


def reading_of(plain: Intervals, paired: Intervals, adjusted: Intervals, *, confounded: bool = False) -> str:
    """What three differences, each of one entry, say together.

    "at equal fit too", "only at equal fit", "explained by fit" and "no difference" need pairs and adjustment to agree,
    or pairs to be missing. Where one of them leaves out 0 and the other does not, "cannot tell"; where their intervals
    are apart or on either side of 0, "pairs and adjustment disagree".
    """
    if confounded:
        return "confounded"
    signs = [_sign(found) for found in (plain, paired, adjusted)]
    equal = signs[2] if signs[1] is None else signs[1]
    if signs[0] is None or equal is None:
        return "cannot tell"
    if None not in signs[1:] and signs[1] != signs[2]:
        apart = paired.low[0] > adjusted.high[0] or adjusted.low[0] > paired.high[0]
        return "pairs and adjustment disagree" if apart or 0 not in signs[1:] else "cannot tell"
    if equal == 0:
        return "explained by fit" if signs[0] else "no difference"
    return "at equal fit too" if signs[0] == equal else "only at equal fit"


def _sign(found: Intervals) -> int | None:
    low, high = float(found.low[0]), float(found.high[0])
    return None if not np.isfinite([low, high]).all() else int(low > 0) - int(high < 0)
