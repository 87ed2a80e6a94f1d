"""Candidates for the nearest neighbours from products in single or double precision, with a proof of completeness.

A point j that was left out has computed nearness a_i.a_j - |a_j|^2 / 2 below the floor f of i's list, so that

    |a_i - a_j|^2 = |a_i|^2 - 2 (a_i.a_j - |a_j|^2 / 2) >= |a_i|^2 - 2 (f + e)

where e bounds the rounding. It only matters if it is nearer than the k-th candidate, at distance r: then
|a_j| <= A + r = B with A = |a_i|. A sum of d products, in any order, is wrong by at most d u / (1 - d u) of the sum of
their sizes (Higham 2002, eq. 3.5); both inputs, the half norm and the difference are rounded once each:

    e <= 1.01 u ((d + 4) A B + B^2) / (1 - (d + 4) u) + underflow,        u = 2^-24, or 2^-53 in float64.

So r^2 <= |a_i|^2 - 2 (f + e) proves that nothing nearer was left out. The products are of centred points, whose entries
were rounded once more: a distance can have changed by c = u sqrt(d), for entries at most 1, so r + 2 c replaces r.
"""

import math
from dataclasses import dataclass

import numpy as np

# Entries of the tiles of products held at a time, and most rows of them.
TILE_ENTRIES = 2**22
ROWS = 512
# Rows, or tiles, that one thread takes at a time.
SHARE_ROWS, SHARE_TILES = 64, 2
# Points in a sample that estimates where lists may begin, and how many times more points make it worth its time.
SAMPLE, MORE = 512, 8
# Squared distances closer than this share are equal.
SAME = 1e-11


State = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Padded:
    """Centred points in one precision, with rows of zeros up to whole tiles; half their squared norms (inf there).

    exact_half (n,): those of the points alone, in float64.
    """

    x: np.ndarray
    half: np.ndarray
    exact_half: np.ndarray

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.exact_half)


@dataclass(frozen=True, eq=False)
class Lists:
    """index (rows, at least 2 keep): candidates, the first `keep` in use, -1 for none.

    floor (rows,): the largest nearness that was left out.
    """

    index: np.ndarray
    floor: np.ndarray
    keep: int

    @property
    def candidates(self) -> np.ndarray:
        """(rows, keep) points."""
        return self.index[:, : self.keep]


def padded(x: np.ndarray, dtype: type) -> Padded:
    """Points (n, d) of entries at most 1, ready for products in that precision."""
    from geomfeat._numba.neighbours import WIDTH

    n, d = x.shape
    points, halves, exact = np.zeros((n + WIDTH, d), dtype), np.full(n + WIDTH, np.inf, dtype), np.empty(n)
    mean = x.mean(0)
    for start in range(0, n, WIDTH):
        part = slice(start, min(n, start + WIDTH))
        rows = x[part] - mean
        points[part] = rows
        exact[part] = 0.5 * np.einsum("ij,ij->i", rows, rows)
    halves[:n] = exact
    return Padded(points, halves, exact)


def lists_of_all(p: Padded, keep: int) -> Lists:
    """The `keep` best candidates of every point; each product is computed once and offered to both of its points."""
    from geomfeat._numba import neighbours as nearest
    from geomfeat._numba.threads import in_threads

    state = _empty(len(p.x), keep, p.x.dtype)
    _begin(p, keep, state[3])
    state[3][p.n :] = np.inf  # rows that fill the last tile take no candidates
    rows, buffer = tiles_of(p)
    for row0 in range(0, p.n, rows):
        own = np.arange(row0, min(p.n, row0 + rows))
        left = p.x[own[0] : own[-1] + 1]
        count = -(-(p.n - row0) // nearest.WIDTH)
        tiles = buffer[: count * len(own) * nearest.WIDTH].reshape(count, len(own), nearest.WIDTH)

        def by_columns(i, j, left=left, row0=row0, tiles=tiles):
            nearest.products(left, p.x, row0, tiles, i, j)
            nearest.update_columns(tiles, p.half, row0, len(left), *state, i, j)

        def by_rows(i, j, own=own, row0=row0, tiles=tiles):
            nearest.update_rows(tiles, p.half, own, own, row0, *state, i, j)

        in_threads(by_columns, count, SHARE_TILES)
        in_threads(by_rows, len(own), SHARE_ROWS)
    return _settled(state, p.n, keep)


def lists_of(p: Padded, points: np.ndarray, keep: int) -> Lists:
    """The same for some of the points only."""
    from geomfeat._numba import neighbours as nearest
    from geomfeat._numba.threads import in_threads

    state = _empty(len(points), keep, p.x.dtype)
    rows, buffer = tiles_of(p)
    count = -(-p.n // nearest.WIDTH)
    for start in range(0, len(points), rows):
        slots = np.arange(start, min(len(points), start + rows))
        own, left = points[slots], p.x[points[slots]]
        tiles = buffer[: count * len(own) * nearest.WIDTH].reshape(count, len(own), nearest.WIDTH)

        def by_rows(i, j, own=own, slots=slots, tiles=tiles):
            nearest.update_rows(tiles, p.half, own, slots, 0, *state, i, j)

        in_threads(lambda i, j, a=left, t=tiles: nearest.products(a, p.x, 0, t, i, j), count, SHARE_TILES)
        in_threads(by_rows, len(own), SHARE_ROWS)
    return _settled(state, len(points), keep)


def proven(d: int, half: np.ndarray, lists: Lists, furthest: np.ndarray) -> np.ndarray:
    """Which lists hold all neighbours up to distance `furthest` (rows,), given |a_i|^2 / 2 (see the module).

    Of float64 products the squared distance need only be proven to a share of SAME: else ties never are.
    """
    floor = lists.floor.astype(np.float64)
    slack = SAME if lists.floor.dtype == np.float64 else 0.0
    bound = rounding(d, lists.floor.dtype, np.sqrt(2 * half), furthest)
    r = furthest + np.finfo(np.float64).eps * np.sqrt(d)
    return (floor == -np.inf) | ((1 - slack) * r * r + 2 * bound <= 2 * (half - floor))


def rounding(d: int, dtype: np.dtype, a: np.ndarray, r: np.ndarray | float) -> np.ndarray:
    """Bound of the rounding of the nearness of points of norm `a` and others within distance r of them."""
    eps = np.finfo(np.float64).eps
    r = r + eps * np.sqrt(d)
    b = a + r
    # |a_i|^2 and the distances are float64 sums themselves, rounded by (d + 4) u of their size at most.
    own = (d + 4) * eps * (a * a + r * r)
    u, tiny = np.finfo(dtype).eps / 2, np.finfo(dtype).tiny
    # The bound is for m u well below 1; with more features than that, no digit is certain.
    if (d + 4) * u > 0.1:
        return np.full_like(a, np.inf)
    # m u / (1 - m u) bounds the rounding of m operations in a row; products that underflow add to it.
    return 1.01 * u * ((d + 4) * a * b + b * b) / (1 - (d + 4) * u) + 8 * d * float(tiny) + own


def _begin(p: Padded, keep: int, floor: np.ndarray) -> None:
    """Floors below which points need not enter a list, guessed from a sample of the points; none for few points.

    Of n points, about n rank / SAMPLE lie above the rank-th of a sample. The rank leaves room for `keep` of them but in
    one of some thousand lists; such a list ends short, is not proven, and its point is done again.
    """
    from geomfeat._numba.neighbours import first_floors
    from geomfeat._numba.threads import in_threads

    if p.n < MORE * SAMPLE:
        return
    expected = keep * SAMPLE / p.n
    rank = math.ceil(expected + 3.3 * math.sqrt(expected) + 3) + 1  # one more: a point may be in the sample itself
    if rank >= SAMPLE // MORE:
        return
    sample = np.linspace(0, p.n - 1, SAMPLE).astype(np.int64)
    in_threads(lambda i, j: first_floors(p.x, p.half, sample, rank, floor, i, j), p.n, SHARE_ROWS)


def _empty(n: int, keep: int, dtype: np.dtype) -> State:
    """The lists that compiled loops fill: nearness, index, how many, floor."""
    shape = (n, max(2 * keep, 64))
    return np.empty(shape, dtype), np.empty(shape, np.int32), np.zeros(n, np.int32), np.full(n, -np.inf, dtype)


def _settled(state: State, n: int, keep: int) -> Lists:
    from geomfeat._numba import neighbours as nearest

    key, index, count, floor = state
    nearest.settle_lists(key, index, count, floor, keep, 0, n)
    return Lists(index[:n], floor[:n], keep)


def tiles_of(p: Padded) -> tuple[int, np.ndarray]:
    """How many rows of products to hold at a time, and room for them."""
    rows = min(ROWS, max(1, TILE_ENTRIES // len(p.x)), p.n)
    return rows, np.empty(rows * len(p.x), p.x.dtype)
