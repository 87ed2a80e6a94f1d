"""Change points of a series: the best cut into straight pieces, by dynamic programming with a BIC penalty.

Optimal partitioning (Jackson et al. 2005): F(t) = min over s < t of F(s) + C(s, t) + penalty, with C the residual sum
of squares of one straight line per column from s to t, columns scaled by their noise. Exact; O(n^2) by running sums.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor

# A line through fewer moments than this fits them exactly, whatever they are.
LEAST_MOMENTS = 3
# Factor from the median absolute deviation to the standard deviation of normal noise, 1 / Phi^-1(3/4).
MAD = 1.4826


def noise_of(y: np.ndarray, x: np.ndarray) -> float:
    """Standard deviation of the noise of a series (n,) at places x (n,), from how far each value is off its neighbours.

    Robust to a few change points, by the median. Source: Gasser, Sroka and Jennen-Steinmetz 1986, with a median.
    """
    if len(y) < 3:
        raise BadInput(f"y holds {len(y)} moments: an estimate of noise needs at least 3")
    # Each value against the line through its two neighbours: a trend cancels, and the noise of the difference has
    # variance share^2 + (1 - share)^2 + 1. The median ignores the few values at change points.
    share = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    off = share * y[:-2] + (1 - share) * y[2:] - y[1:-1]
    return MAD * float(np.median(np.abs(off) / np.sqrt(share**2 + (1 - share) ** 2 + 1)))


def change_points(
    y: np.ndarray, x: np.ndarray | None = None, *, noise: Any = None, least: int = LEAST_MOMENTS
) -> tuple[int, ...]:
    """The first moment of every piece but the first; () if there is no change point.

    Args:
        y: (n,) or (n, k) series, cut at the same moments. x: (n,) ascending places of the moments; default 0, 1, ...
        noise: standard deviation of each series, (k,) or one for all; default as `noise_of` finds it.
        least: moments in a piece at least, 3 or more.

    A further piece has to take more off the squared residuals (in units of the noise) than (2 k + 1) log(n k): a line
    for each series and the place of the cut (BIC, Schwarz 1978; Yao 1988).

    >>> change_points(np.array([0.0, 0.1, 0.0, 0.1, 0.0, 3.0, 3.1, 3.0, 3.1, 3.0]))
    (5,)
    """
    series, places = _checked(y, x, least)
    n, k = series.shape
    if n < 2 * least:
        return ()
    sd = np.array([noise_of(c, places) for c in series.T]) if noise is None else np.broadcast_to(noise, (k,))
    if np.any(~(np.asarray(sd, dtype=float) >= 0)):
        raise BadInput(f"noise={noise} must be at least 0")
    floor = 1e-9 * np.maximum(np.abs(series).max(0), np.finfo(float).tiny)
    costs = segment_costs(series / np.maximum(sd, floor), places)
    # BIC: a further piece costs an intercept and a slope for each column, and its place.
    return _best_cut(costs, (2 * k + 1) * math.log(n * k), least)


def segment_costs(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(n + 1, n + 1) squared residuals of straight lines through y[s:t], summed over columns; entry [s, t], s < t."""
    n = len(y)
    x = (x - x.mean()) / max(float(x.std()), np.finfo(float).tiny)
    costs = np.zeros((n + 1, n + 1))
    for s in range(n):
        count = np.arange(1, n - s + 1)[:, None]
        # Relative to the first moment, so that a late piece loses no digits to an early one.
        dx, dy = (x[s:] - x[s])[:, None], y[s:] - y[s]
        sx, sy, sxx = np.cumsum(dx, 0), np.cumsum(dy, 0), np.cumsum(dx * dx, 0)
        sxy, syy = np.cumsum(dx * dy, 0), np.cumsum(dy * dy, 0)
        vx, cxy, vy = sxx - sx * sx / count, sxy - sx * sy / count, syy - sy * sy / count
        line = np.where(vx > 0, cxy**2 / np.where(vx > 0, vx, 1.0), 0.0)
        costs[s, s + 1 :] = np.clip(vy - line, 0.0, None).sum(1)
    return costs


def _best_cut(costs: np.ndarray, penalty: float, least: int) -> tuple[int, ...]:
    n = len(costs) - 1
    best, last = np.full(n + 1, math.inf), np.zeros(n + 1, dtype=int)
    best[0] = -penalty  # the first piece is free
    for t in range(least, n + 1):
        totals = best[: t - least + 1] + costs[: t - least + 1, t] + penalty
        last[t] = int(np.argmin(totals))
        best[t] = totals[last[t]]
    cuts, t = [], n
    while last[t] > 0:
        t = int(last[t])
        cuts.append(t)
    return tuple(reversed(cuts))


def _checked(y: np.ndarray, x: np.ndarray | None, least: int) -> tuple[np.ndarray, np.ndarray]:
    series = as_tensor(y, "y", WORKING).cpu().numpy()
    series = series[:, None] if series.ndim == 1 else series
    places = np.arange(len(series), dtype=float) if x is None else as_tensor(x, "x", WORKING).cpu().numpy()
    if series.ndim != 2 or places.shape != (len(series),) or not (np.diff(places) > 0).all():
        raise BadInput(f"y has shape {np.shape(y)}, x {places.shape}: give (n,) or (n, k), and n ascending places")
    if not np.isfinite(series).all():
        raise BadInput("the series holds NaN or infinite values: leave those moments out")
    if least < LEAST_MOMENTS:
        raise BadInput(f"least={least}: at least {LEAST_MOMENTS}, a line fits two moments exactly")
    return series, places
