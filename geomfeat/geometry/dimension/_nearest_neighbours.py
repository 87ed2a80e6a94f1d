"""Exact nearest neighbours of every point, in memory that grows with the number of points and not with its square.

In few dimensions a tree finds them, and the differences of all pairs in small sets. Else products in single precision
name a few more candidates than are asked for and float64 differences rank them; `candidates.proven` says which rows
have the right ones for certain. The others are done again with float64 products, and what is uncertain there from the
differences to every point. scikit-learn's search forms every product twice and in float64, which takes up to four
times as long (benchmarks/neighbours.py).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.display import BaseResult, pair_columns
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension._neighbour_candidates import Lists, Padded, lists_of, lists_of_all, padded, proven
from geomfeat.numerics import WORKING
from geomfeat.types import Points, as_points

# A tree is faster up to this many features.
TREE_FEATURES = 8
# Up to this many multiplications, n^2 d, the differences of all pairs take no more time than products and their lists.
FEW_MULTIPLICATIONS = 3e8
# Rows tried in single precision before all are, and the least share of them it must settle.
PROBE, WORTH = 64, 0.5
BLOCK_ENTRIES = 2**24


@dataclass(frozen=True, eq=False)
class Neighbours(BaseResult):
    """distance (n, k): from every point to its k nearest others, nearest first; index (n, k): which they are.

    `to_frame()`: one row for each point and neighbour: point, rank (from 1), neighbour, distance.
    """

    distance: Float[Tensor, "n k"]
    index: Int[Tensor, "n k"]

    def _columns(self) -> dict[str, Any]:
        n, k = self.index.shape
        table = pair_columns(range(n), range(1, k + 1), neighbour=self.index, distance=self.distance)
        return {"point": table.pop("row"), "rank": table.pop("column"), **table}


def nearest_neighbours(x: Points, k: int) -> Neighbours:
    """The k nearest other points of every point, Euclidean, exact up to the rounding of float64 differences.

    Beside x it needs about n (12 d + 50 k + 300) bytes and blocks of products of at most 16 MB (a GPU: 128 MB).
    Copies of a point are its neighbours at distance 0: see `distinct_points`.

    Raises BadInput unless 1 <= k < n.

    >>> nearest_neighbours(torch.tensor([[0.0], [1.0], [3.0]]), 2).distance.tolist()
    [[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]]
    """
    x = as_points(x)
    n, d = x.shape
    if not 1 <= k < n:
        raise BadInput(f"k={k} neighbours of {n} points: k must be from 1 to {n - 1}, or give more samples")
    work, unit = unit_scale(x)
    if work.device.type != "cpu":
        distance, index = by_blocks(work, k)
    else:
        find = by_tree if d <= TREE_FEATURES else by_differences if n * n * d <= FEW_MULTIPLICATIONS else by_products
        distance, index = (torch.from_numpy(a) for a in find(work.numpy(), k))
    return Neighbours(distance.mul_(unit), index.long())


def unit_scale(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], float]:
    """Points in float64 over the smallest power of two that no entry exceeds, and that power: no digit is lost.

    >>> unit_scale(torch.tensor([[1.0], [7.0]]))[1]
    8.0
    """
    work = x.to(WORKING, copy=True).contiguous()
    largest = float(work.abs().amax())
    power = float(2.0 ** np.clip(np.ceil(np.log2(largest)), -1000, 1000)) if largest > 0 else 1.0
    return work.div_(power), power


def by_tree(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (n, k) from a k-d tree."""
    from scipy.spatial import KDTree

    distance, index = map(np.asarray, KDTree(x).query(x, k + 1, workers=torch.get_num_threads()))
    # The point itself comes first, unless it has copies: leave it out wherever it stands, or the last of the copies.
    own = index == np.arange(len(x))[:, None]
    own[~own.any(1), -1] = True
    return distance[~own].reshape(len(x), k), index[~own].reshape(len(x), k)


def by_products(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The same from products and their proof; entries of x at most 1."""
    n, keep = len(x), k + max(6, k // 8)
    rows, probe = np.arange(n), np.arange(0, n, max(1, n // PROBE))
    points = padded(x, np.float32)
    single = _ranked(x, points, probe, lists_of(points, probe, keep), k)[2].mean() >= WORTH
    if not single:
        points = padded(x, np.float64)
    distance, index, sure = _ranked(x, points, rows, lists_of_all(points, keep), k)
    unsure = rows[~sure]
    if len(unsure) and single:
        points = padded(x, np.float64)
        distance[unsure], index[unsure], sure = _ranked(x, points, unsure, lists_of(points, unsure, keep), k)
        unsure = unsure[~sure]
    if len(unsure):
        distance[unsure], index[unsure] = _directly(x, unsure, k)
    return distance, index


def by_differences(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The same from the differences of all pairs."""
    return _directly(x, np.arange(len(x)), k)


def _ranked(
    x: np.ndarray, points: Padded, rows: np.ndarray, lists: Lists, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances and indices (rows, k) of the nearest candidates, and which rows are proven to have the right ones."""
    from geomfeat._numba.neighbours import exact_distances
    from geomfeat._numba.threads import in_threads

    # A list may hold fewer than k: such a row has no k-th distance, and is not proven.
    distance, index = np.full((len(rows), k), np.inf), np.empty((len(rows), k), np.int32)
    near = lists.candidates
    in_threads(lambda i, j: exact_distances(x, rows, near, distance, index, i, j), len(rows), 256)
    return distance, index, proven(x.shape[1], points.exact_half[rows], lists, distance[:, -1])


def _directly(x: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    from geomfeat._numba.neighbours import nearest_directly
    from geomfeat._numba.threads import in_threads

    distance, index = np.empty((len(rows), k)), np.empty((len(rows), k), np.int32)
    in_threads(lambda i, j: nearest_directly(x, rows, distance, index, i, j), len(rows))
    return distance, index


def by_blocks(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same in float64 blocks of rows, on any device."""
    n, d = x.shape
    centered = x - x.mean(0)
    half = 0.5 * centered.square().sum(1)
    keep = min(n - 1, k + 6)
    size = max(1, BLOCK_ENTRIES // max(n, keep * d))
    distance, index = x.new_empty(n, k), torch.empty(n, k, dtype=torch.int64, device=x.device)
    for start in range(0, n, size):
        rows = torch.arange(start, min(n, start + size), device=x.device)
        nearness = centered[rows] @ centered.T - half
        nearness[torch.arange(len(rows), device=x.device), rows] = -torch.inf
        best = nearness.topk(keep, dim=1)
        exact = torch.linalg.vector_norm(x[best.indices] - x[rows, None, :], dim=2)
        near = exact.topk(k, dim=1, largest=False)
        distance[rows], index[rows] = near.values, best.indices.gather(1, near.indices)
        if keep < n - 1:
            lists = Lists(np.empty((len(rows), 0), np.int32), best.values[:, -1].cpu().numpy(), keep)
            sure = proven(d, half[rows].cpu().numpy(), lists, near.values[:, -1].cpu().numpy())
            for row in rows[torch.as_tensor(~sure, device=x.device)].tolist():
                exact = torch.linalg.vector_norm(x - x[row], dim=1)
                exact[row] = torch.inf
                distance[row], index[row] = exact.topk(k, largest=False)
    return distance, index
