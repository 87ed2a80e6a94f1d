"""How many others lie within some radii of every point."""

from numba import njit

from geomfeat._numba.cholesky_update import COMPILED
from geomfeat._numba.neighbours import RUN, WIDTH, squared


@njit(**COMPILED)
def count_within(tiles, half, x, points, floor, squares, count, first, last):
    """count[i, q] += others of point i within the q-th radius, for the rows first..last of the tiles of all points.

    squares: radii squared, ascending. floor (rows,): below this nearness a point is surely outside the largest; the
    others are measured, by float64 differences of x.
    """
    most = squares[-1]
    for r in range(first, last):
        i = points[r]
        for b in range(tiles.shape[0]):
            row, at = tiles[b, r], b * WIDTH
            for j in range(0, WIDTH, RUN):
                hits = 0
                for c in range(j, j + RUN):
                    hits += row[c] - half[at + c] > floor[r]
                if hits > 0:
                    for c in range(j, j + RUN):
                        if row[c] - half[at + c] > floor[r] and at + c != i:
                            distance = squared(x[i], x[at + c])
                            if distance <= most:
                                q = squares.shape[0] - 1
                                while q >= 0 and distance <= squares[q]:
                                    count[i, q] += 1
                                    q -= 1
