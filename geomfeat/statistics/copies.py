"""Which samples are copies of each other: equal, or nearer than the rounding of the precision they came in."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from geomfeat.numerics import WORKING, stream
from geomfeat.precision import IN_RANGE, max_size, near_one, roundings
from geomfeat.statistics.distinct_points import equal_rows, known_points
from geomfeat.types import Points, Representation, as_layer

CHUNK_ENTRIES = 2**22
# Random axes of a first check. A vector of d entries is longer on one than so many times its length over sqrt(d) once
# in some thirty million.
AXES, LONGEST = 8, 6.0
FEW = 4096  # features
# Share of the points' mean size from which on their mean is far above their spread: seven times.
FAR = 0.99


def copies_of(*layers: Points) -> Int[Tensor, "n"]:
    """(n,) a number for each sample, 0, 1, ...: the same one for samples that are copies of each other in all layers.

    Layers are (n, d) of the same n samples. A sample is the same only where all layers say so: equal rows of one layer
    alone, as of one-hot labels or a dead layer, are no copies. Samples that differ along a few random axes are not
    compared in full.

    >>> copies_of(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])).tolist()
    [0, 1, 0]
    >>> copies_of(torch.tensor([[1.0], [1.0], [1.0]]), torch.tensor([[5.0], [5.0], [6.0]])).tolist()
    [0, 0, 1]
    """
    given: list[Representation] = []
    looks: list[_Look] = []
    for x in layers:
        given.append(_in_range(as_layer(x)))
        looks.append(_Look.at(given[-1]))
        # Copies are near each other in every layer, so layers without near points need no check of the others.
        if not any(_close(looks, a, b).any() for a, b in _near_on_axes(looks)):
            return torch.arange(given[0].n)
    points = [known_points(layer) for layer in given]
    first = equal_rows(*(side.x for side in points))
    rows, place = torch.unique(first, return_inverse=True)
    different = [side.take(rows.to(side.x.device)) for side in points]
    joined = _within_rounding([_Look.of(side.x, side.rounding, side.x.mean(0)) for side in different])
    return torch.from_numpy(_numbered(joined[place.cpu().numpy()]))


def united(*numbers: Tensor) -> Int[Tensor, "n"]:
    """(n,) one numbering of samples that joins those that share a number in any of the given ones.

    >>> united(torch.tensor([0, 0, 1, 2]), torch.tensor([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    n, start, rows, columns = len(numbers[0]), len(numbers[0]), [], []
    for one in numbers:
        _, index = np.unique(one.cpu().numpy(), return_inverse=True)
        rows.append(np.arange(n))
        columns.append(start + index)
        start += int(index.max()) + 1
    return torch.from_numpy(_numbered(_components(start, np.concatenate(rows), np.concatenate(columns))[:n]))


def first_of_each(number: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
    """The first sample of each of m numbers 0, 1, ..., ascending.

    >>> first_of_each(torch.tensor([0, 1, 0, 2])).tolist()
    [0, 1, 3]
    """
    n = len(number)
    first = torch.full((int(number.max()) + 1,), n).scatter_reduce_(0, number, torch.arange(n), "amin")
    return first.sort().values


class _Look(NamedTuple):
    """Points, and the same on a few random axes, where they are no further apart than in space.

    x (n, d); reach (n,): how near a point another may be the same. along (n, AXES), near (n,): both on the axes.
    """

    x: Float[Tensor, "n d"]
    reach: Float[Tensor, "n"]
    along: Float[Tensor, "n axes"]
    near: Float[Tensor, "n"]

    @classmethod
    def at(cls, layer: Representation) -> "_Look":
        """Of a layer, with the most that rounding can be."""
        size, mean = torch.linalg.vector_norm(layer.x, dim=1), layer.x.mean(0)
        of_spread, of_size = roundings(layer.precision)
        return cls.of(layer.x, of_spread * (size + torch.linalg.vector_norm(mean)) + of_size * size, mean, size)

    @classmethod
    def of(cls, x: Tensor, reach: Tensor, mean: Tensor, size: Tensor | None = None) -> "_Look":
        """Of points within `reach` of each other; their `size` (n,) if it is known."""
        d, size = x.shape[1], torch.linalg.vector_norm(x, dim=1) if size is None else size
        # Far from the origin the products would lose the digits in which the points differ.
        far = bool(torch.linalg.vector_norm(mean) > FAR * size.mean())
        seen = x.to(WORKING) - mean if far else x
        along = seen @ (_kept_axes(d) if d <= FEW else _axes(d)).to(x.device, seen.dtype)
        # The last term: how far the products are off themselves.
        near = min(1.0, LONGEST / d**0.5) * reach + 2 * torch.finfo(seen.dtype).eps * d**0.5 * size
        return cls(x, reach, along.cpu().to(WORKING), 1.001 * near.cpu().to(WORKING))

    def close(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Which of the pairs of points are within reach."""
        size = max(1, CHUNK_ENTRIES // self.x.shape[1])
        parts = [self._close(a[i : i + size], b[i : i + size]) for i in range(0, len(a), size)]
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    def _close(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        distance = torch.linalg.vector_norm(self.x[a].to(WORKING) - self.x[b].to(WORKING), dim=1)
        return (distance <= torch.maximum(self.reach[a], self.reach[b])).cpu().numpy()


def _axes(d: int) -> Float[Tensor, "d axes"]:
    """Random directions."""
    axes = torch.randn(d, AXES, generator=stream(0, "copies"), dtype=WORKING)
    return axes / torch.linalg.vector_norm(axes, dim=0)


_kept_axes = lru_cache(maxsize=8)(_axes)  # to draw those of few features takes longer than to use them


def _in_range(layer: Representation) -> Representation:
    """The layer, or one whose squares are in range."""
    return layer if 1 / IN_RANGE < max_size(layer.x) < IN_RANGE else layer.with_(x=near_one(layer.x))


def _near_on_axes(looks: Sequence[_Look]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of points that may be within reach of each other in all layers.

    Neighbours in an order that all layers make are looked at first, then those after next, and so on.
    """
    along, near = [look.along.numpy() for look in looks], [look.near.numpy() for look in looks]
    firsts = np.stack([axes[:, 0] for axes in along], 1)
    spread = firsts.std(0)
    moves = spread > 0
    key, reach = ((side[:, moves] / spread[moves]).sum(1) for side in (firsts, np.stack(near, 1)))
    on_axes = [(axis, reached) for axes, reached in zip(along, near, strict=True) for axis in axes.T]
    order = np.argsort(key)
    key, reach = key[order], reach[order]
    for step in range(1, len(order)):
        left = np.flatnonzero(key[step:] - key[:-step] <= np.maximum(reach[step:], reach[:-step]))
        if not len(left):
            return
        a, b = order[left], order[left + step]
        for axis, reached in on_axes:
            kept = np.abs(axis[a] - axis[b]) <= np.maximum(reached[a], reached[b])
            a, b = a[kept], b[kept]
            if not len(a):
                break
        else:
            yield a, b


def _close(looks: Sequence[_Look], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which of the pairs of points are within reach of each other in all layers."""
    return np.logical_and.reduce([look.close(a, b) for look in looks])


def _within_rounding(looks: Sequence[_Look]) -> np.ndarray:
    """(m,) the first of those linked to each of m different points, by distances that are no more than rounding."""
    m = len(looks[0].x)
    every = component = np.arange(m)
    for a, b in _near_on_axes(looks):
        apart = component[a] != component[b]
        a, b = a[apart], b[apart]
        found = _close(looks, a, b)
        if found.any():
            component = _components(m, np.r_[every, a[found]], np.r_[component, b[found]])
    return component


def _components(count: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(count,) the first node of each node's component, given edges."""
    edges = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
    component = connected_components(edges, directed=False)[1]
    _, first = np.unique(component, return_index=True)
    return first[component]


def _numbered(component: np.ndarray) -> np.ndarray:
    """The same parts, numbered by their first sample."""
    _, first, index = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[index].astype(np.int64)
