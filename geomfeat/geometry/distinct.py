"""Points without their copies: at distance 0 a copy says nothing about dimension."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.numerics import WORKING, stream

CHUNK_ENTRIES = 2**22


def distinct_points(x: Float[Tensor, "n d"]) -> Int[Tensor, "m"]:
    """Indices of the first of each set of equal rows, ascending.

    Equal rows share a 64-bit weighted sum of their bits; the rows that share one are then compared.

    >>> distinct_points(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])).tolist()
    [0, 1]
    """
    n, d = x.shape
    weights = torch.randint(-(2**62), 2**62, (d,), generator=stream(0, "distinct points")).mul_(2).add_(1).to(x.device)
    size = max(1, CHUNK_ENTRIES // d)
    codes = torch.cat([(_bits(x[i : i + size]) * weights).sum(1) for i in range(0, n, size)])
    _, group, count = torch.unique(codes, return_inverse=True, return_counts=True)
    shared = torch.nonzero(count[group] > 1)[:, 0]
    keep = count[group] == 1
    if len(shared):
        _, row = torch.unique(_bits(x[shared]), dim=0, return_inverse=True)
        first = torch.full((int(row.max()) + 1,), n, device=x.device).scatter_reduce_(0, row, shared, "amin")
        keep[first] = True
    return torch.nonzero(keep)[:, 0]


def _bits(x: Tensor) -> Tensor:
    # Adding 0 turns -0, which has other bits, into 0.
    return (x.to(WORKING) + 0.0).contiguous().view(torch.int64)
