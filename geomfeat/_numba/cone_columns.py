"""What column generation does for every draw by itself: choose what enters, take it in, solve, leave no gaps.

The arrays are those of `geometry.column_generation.Columns`.
"""

import numpy as np
from numba import njit

from geomfeat._numba.cholesky_update import COMPILED, append, settle
from geomfeat._numba.cone_gram import DEPENDENT, most_violated


@njit(**COMPILED)
def choose(price, signs, starts, per_manifold, lowest, banned, point, size, live, entering, first, last):
    """The most violated points of every draw live[first..last]; price is overwritten at the held ones."""
    sign = np.zeros(price.shape[1], price.dtype)
    for i in range(first, last):
        d = live[i]
        for p in range(starts.shape[0] - 1):
            sign[starts[p] : starts[p + 1]] = signs[d, p]
        for a in range(size[d]):
            price[i, point[d, a]] = 0.0
        most_violated(price[i], sign, starts, per_manifold, lowest[i], banned[d], entering[i])


@njit(**COMPILED)
def advance(
    factor, w, weight, slot, point, rows, size, norm2, banned, residual, unit, t, signs, starts, rank, live, entering,
    first, last,
):  # fmt: skip
    """Take the entering points of the draws live[first..last] in, and solve each draw on what it then holds."""
    capacity, r = factor.shape[1], unit.shape[1]
    column, z, no_basis = np.zeros(capacity), np.zeros(capacity), np.zeros((capacity, 0))
    for i in range(first, last):
        d = live[i]
        s, held = size[d], rows[d]
        total = s
        for e in range(entering.shape[1]):
            j = entering[i, e]
            if j < 0:
                break
            y = signs[d, np.searchsorted(starts, j, side="right") - 1]
            for c in range(r):
                held[total, c] = y * unit[j, c]
            point[d, total] = j
            total += 1
        gram = np.dot(held[s:total], held[:total].T)
        start = s
        for e in range(total - start):
            if s == rank:
                break
            for a in range(s):
                column[a] = gram[e, slot[d, a]]
            along = 0.0
            for c in range(r):
                along += held[start + e, c] * t[d, c]
            if append(factor[d], w[d], s, column, gram[e, start + e], along, DEPENDENT):
                slot[d, s], weight[d, s] = start + e, 0.0
                s += 1
            else:
                banned[d, point[d, start + e]] = True
        if s > start:
            s = settle(factor[d], w[d], no_basis, s, weight[d], slot[d], z)
        reached = 0.0
        for a in range(s):
            reached += w[d, a] * w[d, a]
        if reached > norm2[d] * (1 + 1e-14):
            norm2[d] = reached
            banned[d, :] = False
        else:
            for e in range(total - start):
                banned[d, entering[i, e]] = True
        close_gaps(slot[d], point[d], held, s, total)
        size[d] = s
        for a in range(s):
            z[slot[d, a]] = weight[d, a]
        residual[d] = t[d] - np.dot(z[:s], held[:s])


@njit(**COMPILED)
def close_gaps(slot, point, rows, s, total):
    """Move the last rows into the slots that no held point uses, so that the first s slots are used."""
    owner = np.full(total, -1)
    for a in range(s):
        owner[slot[a]] = a
    low, high = 0, total - 1
    while True:
        while low < total and owner[low] >= 0:
            low += 1
        while high >= 0 and owner[high] < 0:
            high -= 1
        if low > high:
            return
        rows[low] = rows[high]
        point[low] = point[high]
        owner[low] = owner[high]
        slot[owner[low]] = low
        owner[high] = -1
