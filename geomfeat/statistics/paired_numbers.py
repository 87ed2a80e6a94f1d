"""Sums and differences of numbers of the same trials, with errors that know that trials and random draws are common.

Each number comes without each part of the data in turn (`LeftOut`). A linear combination is taken of all numbers, and
of all those without part j, before anything is squared: what a run does to both numbers drops out of their difference.
With h_j = n / m_j as in `group_errors`, p_j = h_j v - (h_j - 1) v_j are pseudo-values: for a mean over samples, the
means of the parts. They are nearly independent, so that tests over runs can treat them as one number of each run
(Tukey 1958). Their weighted mean is v less its jackknife estimate of bias, which for a strongly curved number is
noisier than v by far and common to all parts (of NC1 between bins of noise, three in four tests were then false): it is
added again, so that the parts scatter around v itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.statistics.group_errors import LeftOut, grouped_covariance
from geomfeat.statistics.influence_functions import stderr


def combined(parts: Sequence[LeftOut], weights: Sequence[float]) -> LeftOut:
    """The sum of weights times numbers; draws are paired where all numbers have the same, else their variances add.

    Raises BadInput where the numbers are not of the same parts of the data.

    >>> one = LeftOut(torch.tensor([[2.0], [1.0], [3.0], [2.0]]), torch.ones(3))
    >>> combined([one, one], [1, -1]).values.abs().max()
    tensor(0.)
    """
    first = parts[0]
    if any(len(other.sizes) != len(first.sizes) for other in parts):
        counts = sorted({len(other.sizes) for other in parts})
        raise BadInput(f"the numbers are over {' and '.join(map(str, counts))} parts of the data, which do not pair")
    halves = min(other.values.shape[1] for other in parts)
    values = sum(w * _halved(one.values, halves) for w, one in zip(weights, parts, strict=True))
    assert isinstance(values, Tensor)
    # Of two sets of conditions the parts are of both.
    sizes = torch.stack([one.sizes.to(torch.float64) for one in parts]).mean(0)
    lengths = {None if one.draws is None else len(one.draws) for one in parts}
    if None in lengths or len(lengths) > 1:
        variance = sum(w**2 * draws_variance(one) for w, one in zip(weights, parts, strict=True))
        return LeftOut(values, sizes, draws_variance=variance)
    draws = torch.stack([w * one.draws for w, one in zip(weights, parts, strict=True) if one.draws is not None]).sum(0)
    return LeftOut(values, sizes, draws, first.strata)


def error_of(number: LeftOut) -> float:
    """Standard error over the parts of the data, and over random draws in quadrature; NaN where one is not known."""
    return float(data_variance(number) + draws_variance(number)) ** 0.5


def data_variance(number: LeftOut) -> float:
    """Variance over the data: the plain jackknife, or the product of two halves of the draws (which is not below 0)."""
    one, other = number.values[:, 0], number.values[:, -1]
    found = grouped_covariance((one[0], other[0]), (one[1:], other[1:]), number.sizes)
    return float(found.clamp_min(0.0))


def draws_variance(number: LeftOut) -> float:
    """Variance over the random draws."""
    if number.draws is None:
        return number.draws_variance
    return float(stderr(number.draws, number.strata).square())


def values_of_parts(number: LeftOut) -> Tensor:
    """(g,) the number as each part has it; their mean, weighted by size, is the number.

    >>> x = torch.tensor([1.0, 2.0, 4.0, 7.0])
    >>> values_of_parts(LeftOut(torch.cat([x.mean()[None], (x.sum() - x) / 3])[:, None], torch.ones(4))).tolist()
    [1.0, 2.0, 4.0, 7.0]
    """
    mean, sizes = number.values.mean(1), number.sizes.to(number.values.dtype)
    weight = sizes.sum() / sizes
    pseudo = weight * mean[0] - (weight - 1) * mean[1:]
    return pseudo - (pseudo / weight).sum() + mean[0]


def _halved(values: Tensor, halves: int) -> Tensor:
    return values if values.shape[1] == halves else values.mean(1, keepdim=True)
