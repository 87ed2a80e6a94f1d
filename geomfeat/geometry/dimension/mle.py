"""Intrinsic dimension by the likelihood of the distances to k neighbours (Levina & Bickel 2004).

Where the density is even up to the k-th neighbour of a point, log(r_k / r_j) for j < k are k - 1 exponential numbers of
mean 1 / d. Of one point the estimate without bias is (k - 2) / sum_j log(r_k / r_j), with standard error
d / sqrt(k - 3) (a Gamma law). Over points the inverse estimates are averaged (MacKay & Ghahramani 2005), since the
average of the estimates themselves is that of heavy-tailed numbers:

    1 / d = mean over points of (1 / (k - 1)) sum_{j < k} log(r_k / r_j)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension._two_nn import IntrinsicDimension
from geomfeat.geometry.dimension._valid_neighbours import (
    Apart,
    neighbours_apart,
    overlap_stderr,
    require_different_distances,
    require_no_steps,
    require_possible,
)
from geomfeat.types import Points, as_layer

# Share of tied distances above which the estimate is off by more than some 10 %; far more than at two neighbours.
MOSTLY_TIED = 0.7


def mle_dimension(x: Points, k: int | tuple[int, int] = 20) -> IntrinsicDimension:
    """Levina-Bickel dimension of the points from k neighbours, averaged over points as MacKay and Ghahramani say.

    Args:
        k: neighbours, at least 2; or (first, last) for the mean of the inverse estimates over that range of k.

    Copies of a point are left out first. Raises BadInput for another k, or with no more than k (or fewer than 10)
    different points, or if most of the distances are equal (a lattice, whole numbers or rounded values).

    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> 1.8 < mle_dimension(x, 10).value < 2.2
    True
    """
    first, last = (k, k) if isinstance(k, int) else k
    if not 2 <= first <= last:
        raise BadInput(f"k={k}: neighbours must be at least 2, as a number or as (first, last)")
    return mle_of(neighbours_apart(x, last, "the likelihood estimate"), first, last)


def mle_of(apart: Apart, first: int, last: int) -> IntrinsicDimension:
    """The same from neighbours that are known."""
    tied = require_different_distances(apart, 1, last, "the likelihood estimate")
    inverse = torch.stack([_inverse(apart, k) for k in range(first, last + 1)]).mean(0)
    tied = max(tied, sum(apart.tied(k, k + 1) for k in range(1, last)) / (last - 1))
    nearly = sum(apart.nearly_tied(k, k + 1) for k in range(1, last)) / (last - 1)
    if max(tied, nearly) > MOSTLY_TIED:
        raise BadInput(
            f"{100 * max(tied, nearly):.0f} % of neighbours 1 to {last} are as far as the next"
            f"{'' if tied > MOSTLY_TIED else ', or nearly'}: tied, as whole numbers and rounded values are, also with "
            "a little noise; the likelihood estimate is not defined. Use features before rounding, or more neighbours"
        )
    value = float(1 / inverse.mean())
    stderr = overlap_stderr(inverse.mean() - inverse, len(inverse) / value**2, apart, last)
    require_possible(value, stderr, apart, "the likelihood estimate")
    require_no_steps(apart, 1, last, "the likelihood estimate")
    scale = float(apart.near.distance[:, last - 1].mean())
    return IntrinsicDimension(value, stderr, len(inverse), apart.n_copies, "mle", (1, last), scale, tied)


@dataclass(frozen=True, eq=False)
class LocalDimension(BaseResult):
    """value, stderr (m,): dimension around each of the different points; rows (m,): which of the given points they are.

    NaN where the neighbours of a point are all at one distance.

    `to_frame()`: one row for each different point: rows, value, stderr, n_duplicates.
    """

    value: Float[Tensor, "m"]
    stderr: Float[Tensor, "m"]
    rows: Int[Tensor, "m"]
    n_duplicates: int

    _rows = ("rows", "value", "stderr")


def local_dimension(x: Points, k: int = 20) -> LocalDimension:
    """Likelihood estimate around every point, from its own k neighbours (Levina & Bickel 2004, eq. 8, with k - 2).

    The error of one point is large, d / sqrt(k - 3), and near points share it. Raises BadInput unless k is at least 4,
    or with no more than k (or fewer than 10) different points.

    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> 1.7 < float(local_dimension(x).value.median()) < 2.3
    True
    """
    layer = as_layer(x)
    if k < 4:
        raise BadInput(f"k={k}: the estimate around one point has a standard error only from k=4 on")
    apart = neighbours_apart(layer, k, "the local dimension")
    inverse = _inverse(apart, k)
    # The k - 1 logs of ratios sum to a gamma variable of rate d: (k - 2) / sum has mean d, variance d^2 / (k - 3).
    value = torch.where(inverse > 0, (k - 2) / ((k - 1) * inverse), torch.nan)
    return LocalDimension(value, value / (k - 3) ** 0.5, apart.rows, apart.n_copies)


def _inverse(apart: Apart, k: int) -> Tensor:
    """Mean of log(r_k / r_j) over j < k, for every point."""
    logs = torch.log(apart.near.distance[:, :k])
    return logs[:, k - 1] - logs[:, : k - 1].mean(1)
