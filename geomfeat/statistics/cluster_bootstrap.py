"""Intervals from a bootstrap over seeds: trainings of one seed share their initial weights, so seeds are what is drawn.

G seeds are drawn with replacement, all trainings of a seed together. The plain bootstrap is too narrow for few seeds,
by sqrt((G - 1) / G) and by the normal quantile; with both corrected the interval is

    estimate +- t(G - 1) SE sqrt(G / (G - 1)),

for a mean over seeds Student's interval exactly. On few clusters: Cameron, Gelbach and Miller 2008, section III.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from geomfeat.errors import BadInput
from geomfeat.numerics import numpy_stream

DRAWS = 400
MOST_LISTED = 500  # up to this many distinct draws (6 seeds) are all listed with their probabilities: no random error
LEAST_SHARE = 0.5  # smallest share of the draws that must give a number

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Intervals:
    """Estimates (k,) with standard errors and two-sided intervals; NaN where they are undefined."""

    estimate: np.ndarray
    stderr: np.ndarray
    low: np.ndarray
    high: np.ndarray


def draws_of(n_clusters: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(B, G) how often each cluster is drawn, and (B,) the probability of each draw.

    >>> counts, p = draws_of(2)
    >>> counts.tolist(), p.tolist()
    ([[2, 0], [1, 1], [0, 2]], [0.25, 0.5, 0.25])
    """
    g = n_clusters
    # The number of distinct draws of g items from g with replacement.
    if math.comb(2 * g - 1, g) > MOST_LISTED:
        return numpy_stream(seed, "bootstrap over seeds", g).multinomial(g, np.full(g, 1 / g), DRAWS), np.full(
            DRAWS, 1 / DRAWS
        )
    found = [np.bincount(c, minlength=g) for c in itertools.combinations_with_replacement(range(g), g)]
    # A draw that takes cluster i k_i times comes in g! / prod k_i! orders, of g^g equally likely ones.
    orders = [math.factorial(g) / math.prod(math.factorial(k) for k in c) for c in found]
    return np.stack(found), np.array(orders) / g**g


def over_seeds(statistic: Statistic, seeds: np.ndarray, *, level: float = 0.9, seed: int = 0) -> Intervals:
    """Estimate and interval of a statistic of rows, by the bootstrap over seeds.

    Args:
        statistic: (B, n) how often each row counts -> (B, k) numbers; NaN where a draw gives none.
        seeds: (n,) the seed of each row. level: of the intervals, in (0, 1). seed: of the draws.

    With one seed the errors are NaN: take another interval. A number that half of the draws do not give has none:
    of two seeds, the one draw that has both gives itself alone, and no spread.

    >>> y, seeds = np.array([1.0, 2.0, 3.0, 6.0]), np.array([0, 0, 1, 1])
    >>> found = over_seeds(lambda w: (w @ y / w.sum(1))[:, None], seeds)
    >>> [round(float(v[0]), 3) for v in (found.estimate, found.stderr)]        # seeds have means 1.5 and 4.5
    [3.0, 1.5]
    """
    if not 0 < level < 1:
        raise BadInput(f"level={level} must lie between 0 and 1, e.g. 0.9")
    names, member = np.unique(seeds, return_inverse=True)
    g = len(names)
    estimate = statistic(np.ones((1, len(member))))[0]
    if g < 2:
        nothing = np.full_like(estimate, np.nan)
        return Intervals(estimate, nothing, nothing, nothing)
    counts, p = draws_of(g, seed)
    values = statistic(counts[:, member].astype(float))
    known = np.isfinite(values)
    weight = np.where(known, p[:, None], 0.0)
    total = weight.sum(0)
    safe = np.where(total > 0, total, 1.0)
    filled = np.where(known, values, 0.0)
    mean = (weight * filled).sum(0) / safe
    variance = (weight * np.where(known, (filled - mean) ** 2, 0.0)).sum(0) / safe
    # Draws of g from g with replacement spread by (g - 1) / g of the variance that new seeds would; and with g - 1
    # degrees of freedom left, the quantiles are those of t.
    stderr = np.where(total > LEAST_SHARE, np.sqrt(variance * g / (g - 1)), np.nan)
    half = stdtrit(g - 1, 0.5 + level / 2) * stderr
    return Intervals(estimate, stderr, estimate - half, estimate + half)
