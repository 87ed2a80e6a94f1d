"""Ranks and concordance of values with multiplicities, for many resamples of the same pairs at once.

A bootstrap sample of stimuli repeats pairs: it is the same values with other multiplicities, so that nothing is sorted
again. Values closer than `tie` are tied: rounding must not decide an order.
"""

import numpy as np
from numba import njit

from geomfeat._numba.cholesky_update import COMPILED

# Buckets of more values than this are sorted by a general routine.
CROWDED = 24


@njit(**COMPILED)
def sort_row(values, order, count, bucket):
    """Ascending order of one row, in place: a bucket for every value, by its place in the range, then insertion.

    Linear where values spread over their range, as ranks and sums of ranks do. count (p + 1,) and bucket (p,) are room.
    Values must be finite: NaN has no place in an order, and would be an index outside of `count`.
    """
    p = len(values)
    low, high = values.min(), values.max()
    scale = (p - 1) / (high - low) if high > low else 0.0
    # The range of subnormal values overflows the scale, and that of the largest ones is infinite.
    if high > low and not 0.0 < scale < np.inf:
        order[:] = np.argsort(values)
        return
    count[:] = 0
    for i in range(p):
        bucket[i] = min(p - 1, int((values[i] - low) * scale))
        count[bucket[i] + 1] += 1
    for b in range(p):
        count[b + 1] += count[b]
    for i in range(p):
        order[count[bucket[i]]] = i
        count[bucket[i]] += 1
    start = 0
    for b in range(p):
        end = count[b]
        if end - start > CROWDED and scale > 0.0:
            inside = order[start:end].copy()
            order[start:end] = inside[np.argsort(values[inside])]
        elif scale > 0.0:
            for i in range(start + 1, end):
                moving, k = order[i], i
                while k > start and values[order[k - 1]] > values[moving]:
                    order[k] = order[k - 1]
                    k -= 1
                order[k] = moving
        start = end


@njit(**COMPILED)
def rank_row(order, first_of_tie, weights, out):
    """Mid-ranks of one sample: (multiplicity below) + (multiplicity tied + 1) / 2; first_of_tie along `order`."""
    p = len(order)
    below, start = 0.0, 0
    while start < p:
        tied, end = weights[order[start]], start + 1
        while end < p and not first_of_tie[end]:
            tied += weights[order[end]]
            end += 1
        rank = below + 0.5 * (tied + 1.0)
        for i in range(start, end):
            out[order[i]] = rank
        below += tied
        start = end


@njit(**COMPILED)
def mark_ties(values, order, tie, first_of_tie):
    """Which values along `order` are more than `tie` above the one before, in place."""
    first_of_tie[0] = True
    for i in range(1, len(order)):
        first_of_tie[i] = values[order[i]] - values[order[i - 1]] > tie


@njit(**COMPILED)
def weighted_ranks(values, tie, weights, out, first, last):
    """Mid-ranks of the samples first..last, in place.

    values (r, p): one row for all samples, or one a sample. weights (s, p): whole multiplicities; tie (r,); out (s, p).
    """
    p = values.shape[1]
    order, bucket = np.empty(p, np.int64), np.empty(p, np.int64)
    count, first_of_tie = np.empty(p + 1, np.int64), np.empty(p, np.bool_)
    for s in range(first, last):
        row = s if values.shape[0] > 1 else 0
        if s == first or row > 0:
            sort_row(values[row], order, count, bucket)
            mark_ties(values[row], order, tie[row], first_of_tie)
        rank_row(order, first_of_tie, weights[s], out[s])


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
