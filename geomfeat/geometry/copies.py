"""Which samples are copies of each other: equal, or nearer than the rounding of the precision they came in."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from geomfeat.geometry.distinct import distinct_points, known_points
from geomfeat.numerics import WORKING, stream
from geomfeat.precision import roundings
from geomfeat.types import Points, Representation, as_layer

CHUNK_ENTRIES = 2**22


def copies_of(x: Points) -> Int[Tensor, "n"]:
    """(n,) a number for each sample, 0, 1, ...: the same one for samples that are copies of each other.

    Points on one random axis are no further apart than in space, so that only those within rounding there are compared.

    >>> copies_of(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])).tolist()
    [0, 1, 0]
    """
    layer = as_layer(x)
    if not _may_hold_copies(layer):
        return torch.arange(layer.n)
    points = known_points(layer)
    n, first = len(points.x), distinct_points(points.x)
    if len(first) == n:
        return torch.from_numpy(_numbered(_within_rounding(points.x, points.rounding)))
    _, same = torch.unique(points.x, dim=0, return_inverse=True)
    place = torch.empty(n, dtype=torch.int64, device=same.device)
    place[same[first]] = torch.arange(len(first), device=same.device)
    joined = _within_rounding(points.x[first], points.rounding[first])
    return torch.from_numpy(_numbered(joined[place[same].cpu().numpy()]))


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


def _may_hold_copies(layer: Representation) -> bool:
    """Whether two points are nearer than the most that rounding can be; a look that costs little where none are."""
    x = layer.x.to(WORKING)
    of_spread, of_size = roundings(layer.precision)
    size = torch.linalg.vector_norm(x, dim=1)
    most = of_spread * (size + torch.linalg.vector_norm(x.mean(0))) + of_size * size
    return any(bool(_close(x, most, a, b).any()) for a, b in _near_on_an_axis(x, most))


def _near_on_an_axis(x: Tensor, reach: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of points that are within reach on a random axis: first of neighbours there, then of those after next."""
    m, d = x.shape
    axis = torch.randn(d, generator=stream(0, "copies"), dtype=WORKING).to(x.device)
    place, order = (x.to(WORKING) @ (axis / axis.norm())).sort()
    reach, ranked = reach[order], order.cpu().numpy()
    # How far the m products are off themselves.
    slack = 2 * torch.finfo(WORKING).eps * d**0.5 * float(torch.linalg.vector_norm(x, dim=1, dtype=WORKING).max())
    for step in range(1, m):
        near = place[step:] - place[:-step] <= torch.maximum(reach[step:], reach[:-step]) + slack
        left = torch.nonzero(near)[:, 0].cpu().numpy()
        if not len(left):
            return
        yield ranked[left], ranked[left + step]


def _within_rounding(x: Tensor, rounding: Tensor) -> np.ndarray:
    """(m,) the first of those linked to each of m different points, by distances that are no more than rounding."""
    every = component = np.arange(len(x))
    size = max(1, CHUNK_ENTRIES // x.shape[1])
    for a, b in _near_on_an_axis(x, rounding):
        apart = component[a] != component[b]
        a, b = a[apart], b[apart]
        linked = [_close(x, rounding, a[i : i + size], b[i : i + size]) for i in range(0, len(a), size)]
        if linked and (found := np.concatenate(linked)).any():
            component = _components(len(x), np.r_[every, a[found]], np.r_[component, b[found]])
    return component


def _close(x: Tensor, rounding: Tensor, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    distance = torch.linalg.vector_norm(x[a].to(WORKING) - x[b].to(WORKING), dim=1)
    return (distance <= torch.maximum(rounding[a], rounding[b])).cpu().numpy()


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
