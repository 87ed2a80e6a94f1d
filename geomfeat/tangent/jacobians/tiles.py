"""Kernels from Jacobian rows, tile by tile: for any model, and what the rules are measured against.

Tiles of Jacobian rows are multiplied pair by pair, so the Jacobian is never stored whole when it exceeds the budget;
for x2=None each pair of tiles is computed once.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.tangent.jacobians.rows import Columns, JacobianRows


@dataclasses.dataclass(frozen=True)
class Tile:
    """Some samples and some output columns, as slices: the rows of one block of the Jacobian."""

    rows: slice
    columns: slice


def by_tiles(
    engine: JacobianRows,
    x: Any,
    x2: Any,
    cotangents: Columns,
    summed: bool,
    grams: Mapping[str, Tensor],
    groups: Mapping[str, Sequence[slice]],
    rows_held: int,
) -> None:
    """Add J J' of each group of Jacobian columns to its gram; `rows_held` Jacobian rows may be alive at a time."""
    n, k = n_samples(x), cotangents.shape[1]
    n2 = n if x2 is None else n_samples(x2)
    width = 1 if summed else k
    if x2 is None and n * k <= rows_held:
        first = second = [Tile(slice(0, n), slice(0, k))]
    else:
        first = _tiles(n, k, max(1, rows_held // 2), summed)
        second = first if x2 is None else _tiles(n2, k, max(1, rows_held // 2), summed)
    for i, tile in enumerate(first):
        a = _rows(engine, tile, x, cotangents)
        for other in second[i:] if x2 is None else second:
            if summed and other.columns != tile.columns:
                continue
            b = a if other is tile else _rows(engine, other, x if x2 is None else x2, cotangents)
            for group, parameters in ((g, c) for g, ranges in groups.items() for c in ranges):
                block = _product(a[:, parameters], b[:, parameters], tile.columns, other.columns, summed)
                _put(grams[group], block, tile, other, width)
                if x2 is None and other is not tile:
                    _put(grams[group], block.permute(1, 0, 3, 2), other, tile, width)


def _rows(engine: JacobianRows, tile: Tile, x: Any, cotangents: Columns) -> Tensor:
    return engine(take(x, tile.rows), cotangents[:, tile.columns])


def _tiles(n: int, k: int, rows: int, summed: bool) -> list[Tile]:
    """Tiles of at most `rows` Jacobian rows. For a trace only equal outputs meet: many samples, few outputs."""
    columns = max(1, min(k, rows // n if summed else rows))
    samples = max(1, rows // columns)
    return [
        Tile(slice(i, min(i + samples, n)), slice(c, min(c + columns, k)))
        for c in range(0, k, columns)
        for i in range(0, n, samples)
    ]


def _product(a: Tensor, b: Tensor, a_columns: slice, b_columns: slice, summed: bool) -> Tensor:
    """(samples, samples', outputs, outputs') products of Jacobian rows; (samples, samples', 1, 1) for a trace."""
    ka, kb = a_columns.stop - a_columns.start, b_columns.stop - b_columns.start
    if summed:
        # One product per output, on strided views: no copy of the tile.
        total = sum(a[c::ka] @ b[c::ka].T for c in range(ka))
        assert isinstance(total, Tensor)
        return total[:, :, None, None]
    return (a @ b.T).reshape(a.shape[0] // ka, ka, b.shape[0] // kb, kb).permute(0, 2, 1, 3)


def _put(gram: Tensor, block: Tensor, tile: Tile, other: Tile, width: int) -> None:
    """Add a block at the rows and columns of its tiles."""
    view = gram.view(gram.shape[0] // width, width, gram.shape[1] // width, width)
    rows = slice(0, 1) if width == 1 else tile.columns
    columns = slice(0, 1) if width == 1 else other.columns
    view[tile.rows, rows, other.rows, columns] += block.permute(0, 2, 1, 3)
