"""Participation ratio of the population from products of distinct samples: without bias in either moment.

With samples 1, 2, 3, 4 that are independent, and k_ij = <x_i, x_j>,

    tr C^2   = E <x_1 - x_2, x_3 - x_4>^2 / 4 = E k_13^2 - 2 E k_13 k_14 + E k_13 k_24
    (tr C)^2 = E |x_1 - x_2|^2 |x_3 - x_4|^2 / 4

for rows of any distribution, whatever their mean. Samples of a group (a run, a session) are not independent of each
other: with groups, the averages run over all four samples of different groups, each four with the same weight (so that
the mean drops out exactly), which makes the weight of a pair the number of fours it is in. The sums over distinct
groups come from those over all, less those with a group in common.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import spread_of
from geomfeat.labels import as_groups
from geomfeat.precision import Spread
from geomfeat.types import Points

# Samples in one product.
FOUR = 4


def participation_ratio_unbiased(x: Points | Spread, groups: object = None) -> float:
    """(tr C)^2 / tr C^2 of the population from U-statistics; no Gaussian assumption, needs n >= 4.

    Args:
        x: (n, d). groups: (n,) the group of each sample; averages are then over samples of different groups, of which
            four are needed. None: samples are independent.

    For few samples both moments can be far off, even negative; the ratio is returned as it is.

    Raises BadInput for fewer than 4 samples or groups, NoVariance if all points coincide.

    >>> noise = torch.Generator().manual_seed(0)
    >>> x = torch.randn(60, 50, generator=noise, dtype=torch.float64)
    >>> 40 < participation_ratio_unbiased(x) < 60
    True
    >>> repeated = x.repeat_interleave(2, 0) + 0.1 * torch.randn(120, 50, generator=noise, dtype=torch.float64)
    >>> participation_ratio_unbiased(repeated) < 40 < participation_ratio_unbiased(repeated, torch.arange(120) // 2)
    True
    """
    work = spread_of(x).x
    n = len(work)
    part = torch.arange(n) if groups is None else torch.unique(as_groups(groups, n=n), return_inverse=True)[1]
    part = part.to(work.device)
    sizes = torch.bincount(part).to(work.dtype)
    if len(sizes) < FOUR:
        what = "samples" if groups is None else "groups of samples"
        raise BadInput(f"the unbiased participation ratio needs at least {FOUR} {what}, got {len(sizes)}")
    gram = work @ work.T
    norms = gram.diagonal().clone()
    distance = norms[:, None] + norms[None, :] - 2 * gram
    apart = part[:, None] != part
    gram, distance = (torch.where(apart, matrix, 0.0) for matrix in (gram, distance))
    square_of_trace = _over_distinct(_by_group(distance, part, len(sizes))[1]) / 4
    of_rows, between = _by_group(gram, part, len(sizes))
    squares = _by_group(gram.square(), part, len(sizes))[1]
    # How many twos of other different groups complete a pair, and how many single samples a triple.
    rest = n - sizes[:, None] - sizes
    twos = rest.square() - (sizes.square().sum() - sizes.square()[:, None] - sizes.square())
    row = gram.sum(1)
    ones = (n - sizes[part]) * (row.square() - of_rows.square().sum(1))
    ones = ones - 2 * ((of_rows @ sizes) * row - of_rows.square() @ sizes)
    return float(square_of_trace / ((twos * squares).sum() - 2 * ones.sum() + _over_distinct(between)))


def _by_group(
    matrix: Float[Tensor, "n n"], part: Int[Tensor, "n"], count: int
) -> tuple[Float[Tensor, "n g"], Float[Tensor, "g g"]]:
    """Sums of a matrix over the groups of its columns, and of its rows too."""
    of_rows = matrix.new_zeros(len(matrix), count).index_add_(1, part, matrix)
    return of_rows, matrix.new_zeros(count, count).index_add_(0, part, of_rows)


def _over_distinct(between: Float[Tensor, "g g"]) -> Tensor:
    """Sum of T_ab T_cd over distinct a, b, c, d, of a symmetric T with zero diagonal."""
    rows = between.sum(1)
    # All pairs of pairs, minus those with a group in common (in one of four ways), plus those with two: taken twice.
    return rows.sum().square() - 4 * rows.square().sum() + 2 * between.square().sum()
