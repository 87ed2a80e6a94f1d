"""Kernels from the factors of each weight, in tiles of samples and outputs that fit a memory budget."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.tangent.jacobians.rows import Columns
from geomfeat.tangent.jacobians.tiles import Tile
from geomfeat.tangent.layerwise.scaled_factors import AnyFactors
from geomfeat.tangent.layerwise.structured_kernel import Structured


def by_layers(
    engine: Structured,
    x: Any,
    x2: Any,
    cotangents: Columns,
    summed: bool,
    grams: Mapping[str, Tensor],
    group_of: Mapping[str, str],
    saved: int,
    budget: int,
) -> None:
    """Add the kernel of each covered parameter to the gram of its group.

    Args:
        saved: bytes that the backward pass of one sample saves. budget: bytes for the factors held at a time.
    """
    n, k = n_samples(x), cotangents.shape[1]
    n2 = n if x2 is None else n_samples(x2)
    tiles = partial(layer_tiles, k=k, fixed=saved, per_column=engine.plan.delta_bytes, summed=summed)
    first = second = tiles(n, budget=budget)
    # Two tiles at a time, unless each is all samples, which meet only themselves.
    if x2 is not None or (len(first) > 1 and first[0].rows != slice(0, n)):
        first = second = tiles(n, budget=budget // 2)
        if x2 is not None:
            second = tiles(n2, budget=budget // 2, columns=first[0].columns.stop)
    for i, tile in enumerate(first):
        mine = engine(take(x, tile.rows), cotangents[:, tile.columns])
        for other in second[i:] if x2 is None else second:
            if summed and other.columns != tile.columns:
                continue
            symmetric = other is tile and x2 is None
            inputs = x if x2 is None else x2
            theirs = mine if symmetric else engine(take(inputs, other.rows), cotangents[:, other.columns])
            _add(grams, group_of, mine, theirs, tile, other, 1 if summed else k)
            if x2 is None:
                for gram in grams.values():
                    _mirror(gram, tile, other, 1 if summed else k)


def layer_tiles(
    n: int, *, k: int, fixed: int, per_column: int, budget: int, summed: bool, columns: int | None = None
) -> list[Tile]:
    """Tiles within a budget of bytes: a sample takes `fixed`, and `per_column` for each output.

    For a sum over outputs only equal outputs meet, so all samples with few outputs cost no more than fewer tiles do.
    """
    fitting = (budget // n - fixed) // max(1, per_column)
    if columns is None:
        columns = k if not summed else max(1, min(k, fitting))
        columns = max(1, min(columns, (budget - fixed) // max(1, per_column)))
    samples = max(1, min(n, budget // (fixed + columns * per_column)))
    return [
        Tile(slice(i, min(i + samples, n)), slice(c, min(c + columns, k)))
        for c in range(0, k, columns)
        for i in range(0, n, samples)
    ]


def _block(gram: Tensor, tile: Tile, other: Tile, width: int) -> Tensor:
    """The part of a gram for two tiles: (samples, outputs, samples, outputs), a view."""
    view = gram.view(gram.shape[0] // width, width, gram.shape[1] // width, width)
    if width == 1:
        return view[tile.rows, :, other.rows]
    return view[tile.rows, tile.columns, other.rows, other.columns]


def _add(
    grams: Mapping[str, Tensor],
    group_of: Mapping[str, str],
    mine: AnyFactors,
    theirs: AnyFactors,
    tile: Tile,
    other: Tile,
    width: int,
) -> None:
    for where, factor in mine.items():
        block = _block(grams[group_of[where[0]]], tile, other, width)
        factor.add(block, theirs[where], symmetric=mine is theirs)  # pyright: ignore[reportArgumentType]


def _mirror(gram: Tensor, tile: Tile, other: Tile, width: int) -> None:
    """Fill the lower half of a symmetric gram from the upper one."""
    upper = _block(gram, tile, other, width)
    if other is not tile:
        _block(gram, other, tile, width).copy_(upper.permute(2, 3, 0, 1))
        return
    for i in range(upper.shape[0] - 1):
        upper[i + 1 :, :, i] = upper[i, :, i + 1 :].permute(1, 2, 0)
