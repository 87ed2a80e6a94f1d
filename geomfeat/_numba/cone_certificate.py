"""One pass over the prices of all points: the violations of a draw, and whether any other point touches its plane."""

import numpy as np
from numba import njit

from geomfeat._numba.cholesky_update import COMPILED


@njit(**COMPILED)
def judge(price, signs, starts, index, weight, near, highest, lowest, held, alone, first, last):
    """For the draws first..last: the highest and lowest price, the largest at held points, and whether all others
    are clearly below zero, in place.

    price (draws, k): products of points with the residual, without signs; overwritten. signs (draws, P); points sorted
    by manifold, those of p in starts[p]..starts[p + 1]. index, weight (draws, s): held points, those of weight above 0.
    near (draws,): what is not clearly below zero. Points of sign 0 are no part of a problem.
    """
    for d in range(first, last):
        high, low, reach, rest = -np.inf, np.inf, 0.0, -np.inf
        row = price[d]
        for p in range(len(starts) - 1):
            sign = signs[d, p]
            for j in range(starts[p], starts[p + 1]):
                value = sign * row[j]
                row[j] = value
                high = max(high, value)
                low = min(low, value)
            if sign == 0.0:
                row[starts[p] : starts[p + 1]] = -np.inf
        for a in range(index.shape[1]):
            if weight[d, a] > 0.0:
                reach = max(reach, abs(row[index[d, a]]))
                row[index[d, a]] = -np.inf
        for j in range(len(row)):
            rest = max(rest, row[j])
        highest[d], lowest[d], held[d], alone[d] = high, low, reach, rest < -near[d]
