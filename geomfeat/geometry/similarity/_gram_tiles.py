"""Sums of products of the entries of several Gram matrices, a tile of all of them at a time, on the CPU.

A tile of every matrix together stays in a cache, is used for all pairs of matrices at once, and written over by the
next. Each of the machine's cores takes a tile of its own, with buffers of its own: nothing of size (n, n) is made.
"""

from collections.abc import Sequence
from threading import local
from typing import NamedTuple

import numpy as np

from geomfeat._numba.threads import in_threads

# Of a tile. With fewer, products of features take longer for an entry; with more, tiles of many layers leave the cache.
ROWS, COLUMNS = 192, 384
SUMMED = 256  # products that are summed in single precision, before double precision takes over
FEW = 256  # samples up to which all sums are in double precision: errors of so few do not average out


class Entries(NamedTuple):
    """The entries x_i . x_j of features (n, d), or those of a Gram matrix (n, n), plus u_i + u_j; in float32."""

    features: np.ndarray | None
    gram: np.ndarray | None
    u: np.ndarray

    def tile(self, rows: slice, columns: slice, out: np.ndarray) -> None:
        """Those of some rows and columns into `out`."""
        if self.features is not None:
            # Of the same rows and columns, numpy takes it for a symmetric product, at half the work.
            np.matmul(self.features[rows], self.features[columns].T, out=out)
            out += self.u[rows, None]
        else:
            assert self.gram is not None
            np.add(self.gram[rows, columns], self.u[rows, None], out=out)
        out += self.u[columns]


def products_of_entries(kernels: Sequence[Entries]) -> np.ndarray:
    """(L, L) sum_ij K_ij L_ij over i != j of all pairs of symmetric matrices, in float64.

    >>> gram = np.array([[5.0, 2.0], [2.0, 7.0]], np.float32)
    >>> products_of_entries([Entries(None, gram, np.zeros(2, np.float32))]).tolist()
    [[8.0]]
    """
    n, count = len(kernels[0].u), len(kernels)
    tiles = tiles_of(n)
    found = np.empty((len(tiles), count, count))
    buffers = local()

    def one(i: int, _: int) -> None:
        rows, columns = tiles[i]
        if not hasattr(buffers, "room"):
            buffers.room = np.empty(count * min(ROWS, n) * min(COLUMNS, n), np.float32)
        shape = count, rows.stop - rows.start, columns.stop - columns.start
        entries = buffers.room[: shape[0] * shape[1] * shape[2]].reshape(shape)
        for kernel, out in zip(kernels, entries, strict=True):
            kernel.tile(rows, columns, out)
        if rows == columns:
            np.einsum("kii->ki", entries)[:] = 0
        flat = entries.reshape(count, -1)
        if n <= FEW:
            flat = flat.astype(np.float64)
            sums = flat @ flat.T
        else:
            sums = _inner(flat)
        found[i] = sums * (1 if rows == columns else 2)

    in_threads(one, len(tiles), share=1)
    return found.sum(0)


def tiles_of(n: int) -> list[tuple[slice, slice]]:
    """Square ones on the diagonal, and those right of it, which stand for their mirror images too."""
    tiles = []
    for first in range(0, n, ROWS):
        rows = slice(first, min(n, first + ROWS))
        right = (slice(start, min(n, start + COLUMNS)) for start in range(rows.stop, n, COLUMNS))
        tiles += [(rows, rows), *((rows, columns) for columns in right)]
    return tiles


def _inner(rows: np.ndarray) -> np.ndarray:
    """rows rows' with sums in single precision over at most SUMMED products."""
    whole = rows.shape[1] // SUMMED * SUMMED
    rest = rows[:, whole:]
    pieces = rows[:, :whole].reshape(len(rows), -1, SUMMED).transpose(1, 0, 2)
    return np.matmul(pieces, pieces.transpose(0, 2, 1)).sum(0, dtype=np.float64) + rest @ rest.T
