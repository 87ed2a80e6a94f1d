"""The nearest points of every point, kept in short lists while tiles of products a.b are walked through.

Nearness of j to i is a_i.a_j - |a_j|^2 / 2, larger when nearer: half of |a_i|^2 - |a_i - a_j|^2. A list has room for
twice the m points it is to hold; when it is full, a partition keeps the m largest, and `floor` is the largest nearness
that was ever left out, so that a run of points is passed over by one comparison each. Points are padded to whole tiles
by rows with an infinite half norm, which no list takes. Arrays are all float32 or all float64 in one call, but
for the exact distances. Counts are passed on as int64: see `cholesky_update`.
"""

import numpy as np
from numba import njit

from geomfeat._numba.cholesky_update import COMPILED

WIDTH = 1024  # columns of a tile
RUN = 16  # comparisons made together


@njit(**COMPILED)
def products(left, x, start, tiles, first, last):
    """tiles[b] = left x[start + b WIDTH ...]' for the tiles first..last."""
    for b in range(first, last):
        j = start + b * WIDTH
        np.dot(left, x[j : j + WIDTH].T, tiles[b])


@njit(**COMPILED)
def update_rows(tiles, half, points, slots, start, key, index, count, floor, first, last):
    """Offer all columns of the tiles to the lists of the rows first..last: row r is points[r], with list slots[r]."""
    for r in range(first, last):
        own, s = points[r], slots[r]
        for b in range(tiles.shape[0]):
            row, at = tiles[b, r], start + b * WIDTH
            for j in range(0, WIDTH, RUN):
                hits = 0
                for c in range(j, j + RUN):
                    hits += row[c] - half[at + c] > floor[s]
                if hits > 0:
                    for c in range(j, j + RUN):
                        value = row[c] - half[at + c]
                        if value > floor[s] and at + c != own:
                            _take(key, index, count, floor, s, value, at + c)


@njit(**COMPILED)
def update_columns(tiles, half, row0, rows, key, index, count, floor, first, last):
    """Offer the points row0..row0 + rows to the lists of the columns first..last of the tiles that come after them."""
    for b in range(first, last):
        at = row0 + b * WIDTH
        begin = max(0, rows - b * WIDTH)
        for r in range(rows):
            row, h = tiles[b, r], half[row0 + r]
            for j in range(begin - begin % RUN, WIDTH, RUN):
                hits = 0
                for c in range(j, j + RUN):
                    hits += row[c] - h > floor[at + c]
                if hits > 0:
                    for c in range(max(j, begin), j + RUN):
                        value = row[c] - h
                        if value > floor[at + c]:
                            _take(key, index, count, floor, at + c, value, row0 + r)


@njit(**COMPILED)
def first_floors(x, half, sample, rank, floor, first, last):
    """floor[first..last] = the rank-th largest nearness of each of these points to the points of the sample."""
    values, order = np.empty(len(sample), x.dtype), np.empty(len(sample), np.int32)
    near = np.dot(x[first:last], x[sample].T)
    for r in range(first, last):
        for c in range(len(sample)):
            values[c] = near[r - first, c] - half[sample[c]]
        floor[r] = _partition(values, order, len(sample), rank)


@njit(**COMPILED)
def _take(key, index, count, floor, s, value, point):
    """Add a point to list s, and halve the list if that fills it."""
    n = count[s]
    key[s, n], index[s, n] = value, point
    if n + 1 == key.shape[1]:
        n = key.shape[1] // 2
        floor[s] = max(floor[s], _partition(key[s], index[s], key.shape[1], n))
        count[s] = n
    else:
        count[s] = n + 1


@njit(**COMPILED)
def settle_lists(key, index, count, floor, keep, first, last):
    """Cut the lists first..last down to their `keep` largest; -1 marks what is not used."""
    for s in range(first, last):
        if count[s] > keep:
            floor[s] = max(floor[s], _partition(key[s], index[s], np.int64(count[s]), keep))
            count[s] = keep
        index[s, count[s] :] = -1


@njit(**COMPILED)
def _partition(key, index, n, keep):
    """Order key[:n] so that its `keep` largest come first (Hoare's selection); returns the largest of the others."""
    low, high = 0, n - 1
    while low < high:
        pivot = key[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while key[i] > pivot:
                i += 1
            while key[j] < pivot:
                j -= 1
            if i <= j:
                key[i], key[j] = key[j], key[i]
                index[i], index[j] = index[j], index[i]
                i += 1
                j -= 1
        if keep <= j:
            high = j
        elif keep >= i:
            low = i
        else:
            break
    return key[keep]


@njit(**COMPILED)
def exact_distances(x, rows, candidates, distance, index, first, last):
    """The distances of the points rows[first..last] to their k nearest candidates, nearest first, from differences.

    x (n, d) float64; candidates (rows, m), -1 where a list is not full; distance and index (rows, k). Equal distances
    are ordered by index.
    """
    k = distance.shape[1]
    for r in range(first, last):
        i, held = rows[r], np.int64(0)
        for c in range(candidates.shape[1]):
            j = np.int64(candidates[r, c])
            if j < 0:
                continue
            held = _keep(distance[r], index[r], held, k, squared(x[i], x[j]), j)
        for c in range(held):
            distance[r, c] = np.sqrt(distance[r, c])


@njit(**COMPILED)
def nearest_directly(x, rows, distance, index, first, last):
    """The same with every other point as a candidate."""
    k = distance.shape[1]
    for r in range(first, last):
        i, held = rows[r], np.int64(0)
        for j in range(x.shape[0]):
            if j != i:
                held = _keep(distance[r], index[r], held, k, squared(x[i], x[j]), j)
        for c in range(held):
            distance[r, c] = np.sqrt(distance[r, c])


@njit(**COMPILED)
def squared(a, b):
    """Squared distance of two points, from differences."""
    total = 0.0
    for c in range(a.shape[0]):
        total += (a[c] - b[c]) * (a[c] - b[c])
    return total


@njit(**COMPILED)
def _keep(distance, index, held, k, value, point):
    """Insert into the k smallest so far; returns how many are held."""
    if held == k and not (value < distance[k - 1] or (value == distance[k - 1] and point < index[k - 1])):
        return held
    place = min(held, k - 1)
    while place > 0 and (value < distance[place - 1] or (value == distance[place - 1] and point < index[place - 1])):
        distance[place], index[place] = distance[place - 1], index[place - 1]
        place -= 1
    distance[place], index[place] = value, point
    return min(held + 1, k)
