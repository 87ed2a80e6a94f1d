"""Intrinsic dimension from the two nearest neighbours (TwoNN; Facco, d'Errico, Rodriguez & Laio 2017).

Where the density is even over the range of two neighbours, mu = r2 / r1 follows a Pareto law with exponent d:
P(mu > m) = m^-d. Two estimators of d from the observed mu:

    "mle":     d = (n - 1) / sum log mu      (likelihood without its bias; standard error d / sqrt(n))
    "linear":  slope through the origin of -log(1 - F(mu)) against log mu, without the largest 10 % of mu
               (the published fit; F(mu_(i)) = i / n)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, jackknife_stderr

METHODS = ("mle", "linear")
# Two distances below this share of the cloud's size are the same point up to rounding.
SAME_POINT = 1e-14
# A mean log ratio below this, a dimension above a million, is rounding of equal distances.
EQUAL_DISTANCES = 1e-6
MIN_POINTS = 10
CANDIDATES = 8
CHUNK_DOUBLES = 2**24


@dataclass(frozen=True)
class IntrinsicDimension:
    """value: d. n_used: points with two neighbours apart. n_duplicates: copies left out. method: which estimator."""

    value: float
    stderr: float
    n_used: int
    n_duplicates: int
    method: str


def two_nn(x: Float[Tensor, "n d"], *, method: str = "mle", discard: float | None = None) -> IntrinsicDimension:
    """TwoNN dimension of the points, with its standard error.

    Args:
        method: "mle" (default) or "linear", see the module.
        discard: share of the largest mu to leave out, "linear" only (default 0.1); the likelihood uses all.

    Copies of a point are left out first: at distance 0 they say nothing about dimension.

    Raises BadInput for another method, or with fewer than 10 different points, or if all ratios are 1 (a lattice).

    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> 1.8 < two_nn(x).value < 2.2
    True
    """
    if method not in METHODS:
        raise BadInput(f"method={method!r}: use one of {', '.join(map(repr, METHODS))}")
    if discard is not None and (method == "mle" or not 0 <= discard < 1):
        raise BadInput(f"discard={discard} with method={method!r}: a share in [0, 1), for method='linear' only")
    different = torch.unique(x.to(WORKING), dim=0)
    if len(different) < MIN_POINTS:
        raise BadInput(
            f"{len(different)} different of {x.shape[0]} points: TwoNN needs at least {MIN_POINTS}, give more samples"
        )
    near = two_nearest(different)
    size = (different - different.mean(0)).abs().amax()
    apart = near[:, 0] > SAME_POINT * size
    log_mu = torch.log(near[apart, 1] / near[apart, 0])
    if len(log_mu) < MIN_POINTS or not bool(log_mu.mean() > EQUAL_DISTANCES):
        raise BadInput(
            f"{len(log_mu)} points with neighbours apart, all at equal distances (a lattice, or rounded values): "
            "TwoNN is not defined; add samples, or use features before rounding"
        )
    duplicates = x.shape[0] - len(log_mu)
    if method == "mle":
        value = float((len(log_mu) - 1) / log_mu.sum())
        return IntrinsicDimension(value, value / len(log_mu) ** 0.5, len(log_mu), duplicates, method)
    share = 0.1 if discard is None else discard
    value = _slope(log_mu, share)
    groups = min(20, len(log_mu))
    which = torch.arange(len(log_mu), device=log_mu.device) % groups
    stderr = jackknife_stderr([_slope(log_mu[which != g], share) for g in range(groups)])
    return IntrinsicDimension(value, stderr, len(log_mu), duplicates, method)


def two_nearest(x: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    """Distances of every point to its two nearest others.

    Candidates come from one matrix product per block of rows, their distances from differences: the expansion
    |a|^2 + |b|^2 - 2 a.b loses the small distances that matter here.

    >>> two_nearest(torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)).tolist()
    [[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]]
    """
    n, d = x.shape
    if n < 3:
        raise BadInput(f"two neighbours need at least 3 points, got {n}")
    x = x.to(WORKING) - x.to(WORKING).mean(0)
    norms = x.square().sum(1)
    k = min(CANDIDATES, n - 1)
    size = max(1, min(n, CHUNK_DOUBLES // max(n, k * d)))
    out = []
    for start in range(0, n, size):
        rows = torch.arange(start, min(n, start + size), device=x.device)
        rough = norms[None, :] - 2 * x[rows] @ x.T
        rough[torch.arange(len(rows), device=x.device), rows] = torch.inf
        near = rough.topk(k, dim=1, largest=False).indices
        exact = torch.linalg.vector_norm(x[near] - x[rows][:, None, :], dim=2)
        out.append(exact.topk(2, dim=1, largest=False).values)
    return torch.cat(out)


def _slope(log_mu: Tensor, discard: float) -> float:
    n = len(log_mu)
    kept = log_mu.sort().values[: max(2, int(n * (1 - discard)))]
    empirical = torch.arange(1, len(kept) + 1, dtype=WORKING, device=kept.device) / n
    ok = empirical < 1
    kept, y = kept[ok], -torch.log1p(-empirical[ok])
    return float((kept @ y) / (kept @ kept))
