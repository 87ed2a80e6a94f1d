"""Distances of patterns of which some are copies of others, up to the rounding of the precision they came in.

The distances of a copy to all others would differ from those of its original by rounding alone, and break ties that
ranks must keep: a copy has the distances of its original.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.geometry.rsa.rdms import square
from geomfeat.numerics import WORKING

# Share of two squared norms below which less than half of the digits of a squared distance is left in products.
HALF_THE_DIGITS = torch.finfo(WORKING).eps ** 0.5
CHUNK_ENTRIES = 2**22


def all_apart(
    squared: Float[Tensor, "p"], sizes: Float[Tensor, "p"], radius: Float[Tensor, "n"], metric: Tensor | None = None
) -> bool:
    """Whether no pattern is a copy, and all squared distances have most of their digits; see `distances_apart`."""
    reach = 2 * _largest(metric) * float(radius.max()) ** 2
    return float(squared.min()) > max(HALF_THE_DIGITS * float(sizes.max()), reach)


def distances_apart(
    x: Float[Tensor, "n d"],
    squared: Float[Tensor, "p"],
    sizes: Float[Tensor, "p"],
    radius: Float[Tensor, "n"],
    metric: Tensor | None = None,
) -> Float[Tensor, "p"]:
    """Squared distances of all pairs of patterns; those of copies are 0, and the same as their original's to others.

    Args:
        x: the patterns. squared: squared distances from products. sizes: the squared norms that these come from.
        radius: how near a pattern another must be to be the same.
        metric: that of the squared distances, (d,) or (d, d); None: Euclidean, as that of radius is.

    >>> x, radius = torch.tensor([[0.0], [1.0], [1.0 + 1e-9]]).double(), torch.full((3,), 1e-8).double()
    >>> distances_apart(x, torch.tensor([1.0, 1.1, 0.0]).double(), torch.ones(3).double(), radius).tolist()
    [1.0, 1.0, 0.0]
    """
    n = len(x)
    if all_apart(squared, sizes, radius, metric):
        return squared
    rows, columns = torch.triu_indices(n, n, 1, device=x.device)
    reach = torch.maximum(radius[rows], radius[columns]).square()
    doubtful = torch.nonzero(squared <= torch.maximum(HALF_THE_DIGITS * sizes, 2 * _largest(metric) * reach))[:, 0]
    if not len(doubtful):
        return squared
    plain, exact = _between(x, rows[doubtful], columns[doubtful], metric)
    squared = squared.index_copy(0, doubtful, exact)
    same = plain <= reach[doubtful]
    if not bool(same.any()):
        return squared
    original = _originals(n, rows[doubtful][same], columns[doubtful][same]).to(x.device)
    return square(squared[None], n)[0][original][:, original][rows, columns]


def _largest(metric: Tensor | None) -> float:
    """Bound on the largest eigenvalue of a metric."""
    if metric is None:
        return 1.0
    return float(metric.max() if metric.ndim == 1 else metric.abs().sum(1).max())


def _between(x: Tensor, first: Tensor, second: Tensor, metric: Tensor | None) -> tuple[Tensor, Tensor]:
    """Squared distances of some pairs from their differences: Euclidean, and by the metric."""
    plain, exact = [], []
    size = max(1, CHUNK_ENTRIES // x.shape[1])
    for a, b in zip(first.split(size), second.split(size), strict=True):
        apart = x[a] - x[b]
        plain.append(apart.square().sum(1))
        if metric is not None:
            exact.append((apart * (apart * metric if metric.ndim == 1 else apart @ metric)).sum(1).clamp_min(0))
    return torch.cat(plain), torch.cat(exact or plain)


def _originals(n: int, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Int[Tensor, "n"]:
    """For every pattern the first one, itself no copy, that it is a copy of; itself where there is none.

    Pairs by their second pattern: originals are settled before their copies, and no chain of copies grows long.
    """
    original = list(range(n))
    for late, early in sorted(zip(second.tolist(), first.tolist(), strict=True)):
        if original[late] == late and original[early] == early:
            original[late] = early
    return torch.tensor(original)
