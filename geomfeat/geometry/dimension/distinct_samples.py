"""Participation ratio of the population from products of distinct samples: without bias in either moment.

With samples 1, 2, 3, 4 that are independent, and k_ij = <x_i, x_j>,

    tr C^2   = E <x_1 - x_2, x_3 - x_4>^2 / 4 = E k_13^2 - 2 E k_13 k_14 + E k_13 k_24
    (tr C)^2 = E |x_1 - x_2|^2 |x_3 - x_4|^2 / 4

for rows of any distribution, whatever their mean. Samples of a group (a run, a session) are not independent of each
other: with groups, the averages run over all four samples of different groups, each four with the same weight (so that
the mean drops out exactly), which makes the weight of a pair the number of fours it is in. The sums over distinct
groups come from those over all, less those with a group in common.
"""

from math import inf

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import (
    group_jackknife,
    participation_ratio_wishart,
    spread_of,
    wishart_ratio,
)
from geomfeat.geometry.dimension.leave_out_spectra import LeaveOut, Moments, jackknife, left_out
from geomfeat.labels import as_groups
from geomfeat.precision import Spread
from geomfeat.statistics.group_errors import errors_wanted
from geomfeat.types import Points, Representation

# Samples in one product.
FOUR = 4
BLOCK = 4_000_000  # products of samples that are held at once


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
    spread = spread_of(x)
    work = spread.x
    n = len(work)
    if groups is None:
        return unbiased_ratio(moments_of(LeaveOut(spread)))
    part = torch.unique(as_groups(groups, n=n), return_inverse=True)[1].to(work.device)
    sizes = torch.bincount(part).to(work.dtype)
    _require_four(len(sizes), "groups of samples")
    # How many twos of other different groups complete a pair, and how many single samples a triple.
    rest = n - sizes[:, None] - sizes
    twos = rest.square() - (sizes.square().sum() - sizes.square()[:, None] - sizes.square())
    grams, distances, squares = (work.new_zeros(len(sizes), len(sizes)) for _ in range(3))
    ones = 0.0
    norms = work.square().sum(1)
    for rows in torch.arange(n, device=work.device).split(max(1, BLOCK // n)):
        gram = work[rows] @ work.T
        distance = norms[rows, None] + norms - 2 * gram
        apart = part[rows, None] != part
        gram, distance = (torch.where(apart, matrix, 0.0) for matrix in (gram, distance))
        of_rows = _by_group(gram, part, len(sizes))
        row = gram.sum(1)
        triples = (n - sizes[part[rows]]) * (row.square() - of_rows.square().sum(1))
        ones += float((triples - 2 * ((of_rows @ sizes) * row - of_rows.square() @ sizes)).sum())
        grams.index_add_(0, part[rows], of_rows)
        distances.index_add_(0, part[rows], _by_group(distance, part, len(sizes)))
        squares.index_add_(0, part[rows], _by_group(gram.square(), part, len(sizes)))
    square_of_trace = _over_distinct(distances) / 4
    return float(square_of_trace / ((twos * squares).sum() - 2 * ones + _over_distinct(grams)))


def population_participation_ratio(
    layer: Representation, groups: Tensor | None = None, *, gaussian: bool = False
) -> tuple[float, float | None]:
    """Participation ratio of the population, and its error by a jackknife over tenths of the samples.

    Args:
        groups: (n,) as for `participation_ratio_unbiased`. gaussian: as `participation_ratio_wishart`, without groups.

    Raises as `participation_ratio_unbiased`.
    """
    one = left_out(layer)
    spread = one.spread
    if gaussian:
        value, parts = participation_ratio_wishart(one), one.moments if errors_wanted() else None
        return value, jackknife(None if parts is None else [wishart_ratio(m.n, m.trace, m.square) for m in parts])
    if groups is None:
        value, parts = unbiased_ratio(moments_of(one)), one.moments if errors_wanted() else None
        few = parts is None or min(m.n for m in parts) < FOUR
        return value, jackknife(None if few else [unbiased_ratio(m) for m in parts or ()])
    turned = spread.turned()
    error = group_jackknife(lambda rows: participation_ratio_unbiased(turned.take(rows), groups[rows]), layer.n)
    return participation_ratio_unbiased(spread, groups), error


def moments_of(one: LeaveOut) -> Moments:
    """The sums that the ratio of independent samples takes."""
    lengths = one.spread.x.square().sum(1)
    sums = (float(part.sum()) for part in (lengths, one.product.square(), lengths.square()))
    return Moments(len(lengths), *sums)


def unbiased_ratio(of: Moments) -> float:
    """(tr C)^2 / tr C^2 of independent samples, whose sums over distinct ones follow from those over all.

    The points are centred, so that the products of a sample with all others sum to minus its squared length. With
    k_ij = <x_i, x_j>, over pairs i != j: sum k_ij^2 = |S|^2 - sum |x_i|^4.

    Raises BadInput for fewer than four samples.
    """
    n, trace, fourth = of.n, of.trace, of.fourth
    _require_four(n, "samples")
    pairs = of.square - fourth  # sum of k_ij^2
    triples = fourth - pairs  # sum of k_ij k_il
    quadruples = trace**2 - 4 * fourth + 2 * pairs  # sum of k_ij k_lm
    square = pairs * (n - 2) * (n - 3) - 2 * triples * (n - 3) + quadruples
    # Squared distances D_ij = |x_i|^2 + |x_j|^2 - 2 k_ij: their sum, by rows, and of squares.
    whole, rows = 2 * n * trace, n**2 * fourth + 3 * n * trace**2
    squares = 2 * n * fourth + 2 * trace**2 + 4 * of.square
    return (whole**2 - 4 * rows + 2 * squares) / 4 / square if square else inf


def _require_four(count: int, what: str) -> None:
    if count < FOUR:
        raise BadInput(f"the unbiased participation ratio needs at least {FOUR} {what}, got {count}")


def _by_group(matrix: Float[Tensor, "b n"], part: Int[Tensor, "n"], count: int) -> Float[Tensor, "b g"]:
    """Sums of a matrix over the groups of its columns."""
    return matrix.new_zeros(len(matrix), count).index_add_(1, part, matrix)


def _over_distinct(between: Float[Tensor, "g g"]) -> Tensor:
    """Sum of T_ab T_cd over distinct a, b, c, d, of a symmetric T with zero diagonal."""
    rows = between.sum(1)
    # All pairs of pairs, minus those with a group in common (in one of four ways), plus those with two: taken twice.
    return rows.sum().square() - 4 * rows.square().sum() + 2 * between.square().sum()
