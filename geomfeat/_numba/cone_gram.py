"""Cone projections of many targets over few points: one Gram matrix of all points, then one compiled run a draw.

With G = U U' of the unit points and b = U t, the violation of every point is y (b - sum_i l_i y_i G[i]), which costs a
pass over the held rows of G. Where there are not many more points than draws, this is cheaper than pricing with the
points themselves, and no draw waits for another.
"""

import numpy as np
from numba import njit

from geomfeat._numba.cholesky_update import COMPILED, append, settle

# A point whose squared distance to the span of the held ones is below this is left to a method with more digits.
DEPENDENT = 1e-10


@njit(**COMPILED)
def project_by_gram(gram, products, signs, starts, per_manifold, limit, capacity, index, weight, first, last):
    """Active set of the draws first..last, in place; what cannot be finished is left for the certificate to refuse.
    A point whose Gram matrix with the held ones is singular up to rounding waits until the held set has changed.

    gram (k, k); products (draws, k) = U t; signs (draws, P); points sorted by manifold, those of p in
    starts[p]..starts[p + 1]; limit (draws,): largest violation of a finished draw; capacity: most held points.
    index (draws, capacity) gets the held points (-1 where unused) and weight their multipliers.
    """
    k, n_manifolds = gram.shape[0], starts.shape[0] - 1
    factor = np.zeros((capacity, capacity))
    w, z, column = np.zeros(capacity), np.zeros(capacity), np.zeros(capacity)
    no_basis = np.zeros((capacity, 0))
    price = np.zeros(k)
    sign = np.zeros(k)
    banned = np.zeros(k, np.bool_)
    entering = np.zeros(n_manifolds * per_manifold, np.int64)
    for d in range(first, last):
        for p in range(n_manifolds):
            sign[starts[p] : starts[p + 1]] = signs[d, p]
        held, weights = index[d], weight[d]
        s, norm2 = np.int64(0), 0.0  # with its type: see `cholesky_update`
        banned[:] = False
        for _ in range(50 * capacity + 100):
            price[:] = products[d]
            for i in range(s):
                row, l = gram[held[i]], weights[i] * sign[held[i]]
                for j in range(k):
                    price[j] -= l * row[j]
            for i in range(s):
                price[held[i]] = 0.0
            n = most_violated(price, sign, starts, per_manifold, limit[d], banned, entering)
            if n == 0:
                break
            for e in range(n):
                if s == capacity:
                    break
                j = entering[e]
                for i in range(s):
                    column[i] = gram[j, held[i]] * sign[j] * sign[held[i]]
                if append(factor, w, s, column, gram[j, j], products[d, j] * sign[j], DEPENDENT):
                    held[s], weights[s] = j, 0.0
                    s += 1
                else:
                    banned[j] = True
            s = settle(factor, w, no_basis, s, weights, held, z)
            reached = 0.0
            for i in range(s):
                reached += w[i] * w[i]
            if reached > norm2 * (1 + 1e-14):
                norm2 = reached
                banned[:] = False
            else:
                # No progress: rounding decides what enters. These points wait until something else has moved.
                for e in range(n):
                    banned[entering[e]] = True
        for i in range(s, capacity):
            held[i], weights[i] = -1, 0.0


@njit(**COMPILED)
def most_violated(price, sign, starts, per_manifold, limit, banned, entering):
    """The most violated points of every manifold, the worst first; returns how many."""
    n = 0
    for p in range(starts.shape[0] - 1):
        begin = n
        for j in range(starts[p], starts[p + 1]):
            value = price[j] * sign[j]
            if value <= limit or banned[j]:
                continue
            # Insertion into this manifold's short list.
            place = n
            while place > begin and value > price[entering[place - 1]] * sign[entering[place - 1]]:
                place -= 1
            if place - begin >= per_manifold:
                continue
            if n - begin < per_manifold:
                n += 1
            for q in range(n - 1, place, -1):
                entering[q] = entering[q - 1]
            entering[place] = j
    for i in range(1, n):
        j = entering[i]
        value = price[j] * sign[j]
        place = i
        while place > 0 and value > price[entering[place - 1]] * sign[entering[place - 1]]:
            entering[place] = entering[place - 1]
            place -= 1
        entering[place] = j
    return n
