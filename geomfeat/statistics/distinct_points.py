"""Points without their copies: copies, also rounded ones, carry no information about dimension."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.numerics import WORKING, stream
from geomfeat.precision import Spread, roundings
from geomfeat.types import Representation

# Entries that are worked on at once: few enough to stay in a cache.
CHUNK_ENTRIES = 2**16


class KnownPoints(NamedTuple):
    """Points without features that are constant up to rounding, which only add noise to distances.

    rounding (n,): how near a point another may be the same. tie (n,): how near two distances from it may be equal.
    Of continuous data that are dense in their precision, points and distances as near as this, and as near again, are
    about as many; copies and lattices have the former alone.
    """

    x: Float[Tensor, "n d"]
    rounding: Float[Tensor, "n"]
    tie: Float[Tensor, "n"]

    def take(self, rows: Int[Tensor, "m"] | Bool[Tensor, "n"]) -> "KnownPoints":
        """Some of them."""
        return KnownPoints(*(part[rows] for part in self))


def known_points(layer: Representation) -> KnownPoints:
    """The points of a layer with what rounding in the precision they came in can do to them."""
    spread = Spread.of(layer.x, layer.precision)
    moves = spread.x.any(0)
    x = layer.x if bool(moves.all()) else layer.x[:, moves] if bool(moves.any()) else torch.zeros_like(layer.x[:, :1])
    around = torch.linalg.vector_norm(spread.x, dim=1) * spread.unit
    size = torch.linalg.vector_norm(x.to(WORKING) / spread.unit, dim=1) * spread.unit
    of_spread, of_size = roundings(layer.precision)
    # Errors across a distance hardly count, so that it is off by that of one entry, whatever their number. In a
    # precision coarser than float32, lattices have exact ties.
    tie = min(torch.finfo(layer.precision).eps, torch.finfo(torch.float32).eps) / x.shape[1] ** 0.5
    return KnownPoints(x, of_spread * around + of_size * size, tie * size)


def far_enough(distance: Float[Tensor, "n k"], index: Int[Tensor, "n k"], rounding: Float[Tensor, "n"]) -> Tensor:
    """Indices of the points without those that an earlier one left, among its nearest neighbours, may be rounded to.

    >>> distance, index = torch.tensor([[0.1], [0.1], [5.0]]).double(), torch.tensor([[1], [0], [1]])
    >>> far_enough(distance, index, torch.full((3,), 0.5).double()).tolist()
    [0, 2]
    """
    near = distance <= rounding[:, None]
    rows, _ = near.nonzero(as_tuple=True)
    first, second = torch.minimum(rows, index[near]).tolist(), torch.maximum(rows, index[near]).tolist()
    gone: set[int] = set()
    for early, late in sorted(set(zip(first, second, strict=True)), key=lambda pair: pair[::-1]):
        if early not in gone:
            gone.add(late)
    kept = torch.ones(len(distance), dtype=torch.bool, device=distance.device)
    kept[torch.tensor(sorted(gone), dtype=torch.int64, device=kept.device)] = False
    return kept.nonzero()[:, 0]


def distinct_points(x: Float[Tensor, "n d"]) -> Int[Tensor, "m"]:
    """Indices of the first of each set of equal rows, ascending.

    >>> distinct_points(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])).tolist()
    [0, 1]
    """
    first = equal_rows(x)
    return torch.nonzero(first == torch.arange(len(first), device=first.device))[:, 0]


def equal_rows(*layers: Float[Tensor, "n _"]) -> Int[Tensor, "n"]:
    """The first sample that each sample equals in all layers (n, d), which is the sample itself where none does before.

    Equal rows share a 64-bit weighted sum of their bits; the rows that share one are then compared.

    >>> equal_rows(torch.tensor([[1.0], [3.0], [1.0], [1.0]]), torch.tensor([[5.0], [5.0], [5.0], [6.0]])).tolist()
    [0, 1, 0, 3]
    """
    n, device = len(layers[0]), layers[0].device
    draws, codes = stream(0, "distinct points"), torch.zeros(n, dtype=torch.int64, device=device)
    for x in layers:
        d = x.shape[1]
        weights = torch.randint(-(2**62), 2**62, (d,), generator=draws).mul_(2).add_(1).to(x.device)
        size = max(1, CHUNK_ENTRIES // d)
        codes += torch.cat([(_bits(x[i : i + size]) * weights).sum(1) for i in range(0, n, size)]).to(device)
    _, group, count = torch.unique(codes, return_inverse=True, return_counts=True)
    shared = torch.nonzero(count[group] > 1)[:, 0]
    first = torch.arange(n, device=device)
    if len(shared):
        bits = torch.cat([_bits(x[shared.to(x.device)]).to(device) for x in layers], 1)
        _, row = torch.unique(bits, dim=0, return_inverse=True)
        earliest = torch.full((int(row.max()) + 1,), n, device=device).scatter_reduce_(0, row, shared, "amin")
        first[shared] = earliest[row]
    return first


def _bits(x: Tensor) -> Tensor:
    # Adding 0 turns -0, which has other bits, into 0.
    return (x.to(WORKING) + 0.0).contiguous().view(torch.int64)
