"""Ranks and concordance of values with multiplicities, for many resamples of the same pairs at once.

A bootstrap sample of stimuli repeats pairs: it is the same values with other multiplicities, so that nothing is sorted
again. Values closer than `tie` are tied: rounding must not decide an order.
"""

import numpy as np
from numba import njit

from geomfeat.compiled.factor import COMPILED


@njit(**COMPILED)
def weighted_ranks(values, order, weights, tie, out, first, last):
    """Mid-ranks of the samples first..last, in place: (multiplicity below) + (multiplicity tied + 1) / 2.

    values (r, p) and order (r, p), their ascending order: one row for all samples, or one a sample. weights (s, p):
    whole multiplicities; tie (r,); out (s, p).
    """
    p = values.shape[1]
    for s in range(first, last):
        row = s if values.shape[0] > 1 else 0
        below, start = 0.0, 0
        while start < p:
            end, tied = start, 0.0
            previous = values[row, order[row, start]]
            while end < p and values[row, order[row, end]] - previous <= tie[row]:
                previous = values[row, order[row, end]]
                tied += weights[s, order[row, end]]
                end += 1
            for i in range(start, end):
                out[s, order[row, i]] = below + (tied + 1.0) / 2.0
            below += tied
            start = end


@njit(**COMPILED)
def dense_ranks(values, order, tie, out):
    """0, 1, 2, ... of the different values of each row, in place; returns how many each row has."""
    counts = np.zeros(len(values), np.int64)
    for row in range(len(values)):
        level = 0
        for i in range(values.shape[1]):
            if i and values[row, order[row, i]] - values[row, order[row, i - 1]] > tie[row]:
                level += 1
            out[row, order[row, i]] = level
        counts[row] = level + 1
    return counts


@njit(**COMPILED)
def concordance(levels_a, order_a, levels_b, weights, out, first, last):
    """Concordant minus discordant pairs of values, of the samples first..last, in place (Knight 1966, with weights).

    levels_a, levels_b: dense ranks (1 or s, p); order_a: ascending order of a, as many rows as levels_a; weights (s, p)
    and out (s,). A value and its copies are tied, so they count neither way. Fenwick tree of the weights seen over b.
    """
    p = weights.shape[1]
    for s in range(first, last):
        a, b = s if levels_a.shape[0] > 1 else 0, s if levels_b.shape[0] > 1 else 0
        size = 0
        for i in range(p):
            size = max(size, levels_b[b, i] + 1)
        tree = np.zeros(size + 1)
        total, seen, start = 0.0, 0.0, 0
        while start < p:
            end = start
            level = levels_a[a, order_a[a, start]]
            while end < p and levels_a[a, order_a[a, end]] == level:
                w = weights[s, order_a[a, end]]
                if w != 0.0:
                    j = levels_b[b, order_a[a, end]]
                    upto, k = 0.0, j + 1
                    while k > 0:
                        upto += tree[k]
                        k -= k & -k
                    below, k = 0.0, j
                    while k > 0:
                        below += tree[k]
                        k -= k & -k
                    total += w * (below - (seen - upto))
                end += 1
            for i in range(start, end):
                w = weights[s, order_a[a, i]]
                if w != 0.0:
                    k = levels_b[b, order_a[a, i]] + 1
                    while k <= size:
                        tree[k] += w
                        k += k & -k
                    seen += w
            start = end
        out[s] = total
