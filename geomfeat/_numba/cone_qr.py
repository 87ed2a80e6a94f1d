"""Cone projections with an orthonormal basis of the held points: for points too close for a Gram matrix.

The non-negative least squares method of Lawson & Hanson 1974, chapter 23, as they wrote it: with QR in place of normal
equations, so that the condition number of the held points counts once and not squared. The residual v = t - Q Q't comes
from the basis, not from the multipliers, and is exact to rounding however large those are.
"""

import numpy as np
from numba import njit

from geomfeat._numba.cholesky_update import COMPILED, settle
from geomfeat._numba.cone_gram import most_violated

# A unit point this near the span of the held ones cannot be violated by more than that.
DEPENDENT = 1e-12


@njit(**COMPILED)
def project_by_basis(unit, t, signs, starts, per_manifold, limit, capacity, index, weight, residual, first, last):
    """Active set of the draws first..last, in place, with their residuals (draws, r).

    The arguments are those of `gram.project_by_gram`, with the unit points (k, r) and targets t (draws, r); index and
    weight hold what to start from.
    """
    k, r = unit.shape
    factor, basis = np.zeros((capacity, capacity)), np.zeros((capacity, r))
    w, z, sign, price = np.zeros(capacity), np.zeros(capacity), np.zeros(k), np.zeros(k)
    banned = np.zeros(k, np.bool_)
    entering = np.zeros((starts.shape[0] - 1) * per_manifold, np.int64)
    for d in range(first, last):
        for p in range(starts.shape[0] - 1):
            sign[starts[p] : starts[p + 1]] = signs[d, p]
        held, weights, v = index[d], weight[d], residual[d]
        s = np.int64(0)  # with its type: see `cholesky_update`
        for i in range(capacity):
            if weights[i] > 0.0 and enter(basis, factor, w, s, unit[held[i]], sign[held[i]], t[d]):
                held[s], weights[s] = held[i], weights[i]
                s += 1
        s = settle(factor, w, basis, s, weights, held, z)
        norm2 = away_from(basis, w, s, t[d], v)
        banned[:] = False
        for _ in range(50 * capacity + 100):
            price[:] = np.dot(unit, v)
            for i in range(s):
                price[held[i]] = 0.0
            n = most_violated(price, sign, starts, per_manifold, limit[d], banned, entering)
            if n == 0:
                break
            for e in range(n):
                j = entering[e]
                if s < capacity and enter(basis, factor, w, s, unit[j], sign[j], t[d]):
                    held[s], weights[s] = j, 0.0
                    s += 1
                else:
                    banned[j] = s < capacity
            s = settle(factor, w, basis, s, weights, held, z)
            reached = away_from(basis, w, s, t[d], v)
            if reached > norm2 * (1 + 1e-14):
                norm2 = reached
                banned[:] = False
            else:
                for e in range(n):
                    banned[entering[e]] = True
        for i in range(s, capacity):
            held[i], weights[i] = -1, 0.0


@njit(**COMPILED)
def enter(basis, factor, w, s, point, sign, t):
    """Add sign * point to the held ones by Gram-Schmidt, twice; False if it depends on them."""
    row = basis[s]
    for c in range(row.shape[0]):
        row[c] = sign * point[c]
    for i in range(s):
        factor[i, s] = 0.0
    for _ in range(2):
        for i in range(s):
            along = 0.0
            for c in range(row.shape[0]):
                along += basis[i, c] * row[c]
            factor[i, s] += along
            for c in range(row.shape[0]):
                row[c] -= along * basis[i, c]
    length = np.sqrt(np.dot(row, row))
    if not length > DEPENDENT:
        return False
    for c in range(row.shape[0]):
        row[c] /= length
    factor[s, s] = length
    w[s] = np.dot(row, t)
    return True


@njit(**COMPILED)
def away_from(basis, w, s, t, v):
    """v = t minus its part in the first s rows of the basis, taken off twice; w its coordinates; returns |w|^2."""
    v[:] = t
    w[:s] = 0.0
    for _ in range(2):
        for i in range(s):
            along = 0.0
            for c in range(v.shape[0]):
                along += basis[i, c] * v[c]
            w[i] += along
            for c in range(v.shape[0]):
                v[c] -= along * basis[i, c]
    total = 0.0
    for i in range(s):
        total += w[i] * w[i]
    return total
