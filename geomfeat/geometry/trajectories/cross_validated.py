"""Squared lengths without the bias of noise: products of different groups of trials alone.

The squared length of a noisy mean is too large by the variance of its noise. With vectors d_j of independent groups
(runs), E d_j . d_k = |d|^2 for j != k, so

    sum_{j != k} w_j w_k d_j . d_k / ((sum w)^2 - sum w^2)

is unbiased, and around 0, on both sides of it, where there is nothing (Walther et al. 2016; the cross-validated
distance of Diedrichsen et al. 2021). What a run adds to all conditions drops out of the differences within the run.
The weight of a run of n_a and n_b trials is n_a n_b / (n_a + n_b), the inverse variance of its difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, in_floats
from geomfeat.statistics.group_errors import FEWEST, grouped_stderr


@dataclass(frozen=True, eq=False)
class CrossValidated(BaseResult):
    """Squared lengths over time, unbiased.

    Attributes:
        squared: (time,) below 0 by chance where there is nothing. stderr: (time,) jackknife over groups; NaN for two.
        without: (groups, time) the same without each group. weights: (groups,) of the groups.
        grams: (time, groups, groups) weighted inner products, for tests that exchange the conditions within groups.

    `to_frame()`: a row for each time.
    """

    squared: Float[Tensor, "time"]
    stderr: Float[Tensor, "time"]
    without: Float[Tensor, "groups time"]
    weights: Float[Tensor, "groups"]
    grams: Float[Tensor, "time groups groups"]

    _rows = ("squared", "stderr")


def cross_validated_length(vectors: Any, weights: Any = None) -> CrossValidated:
    """Unbiased squared length over time of the vector that all groups share, with its error by a jackknife over groups.

    Args:
        vectors: (groups, time, units), independent of each other: differences of two conditions, or derivatives.
        weights: (groups,) positive; default equal ones.

    Raises BadInput for other shapes, fewer than two groups, or weights that are not positive.

    >>> shift = torch.tensor([3.0, 4.0], dtype=torch.float64)
    >>> noise = torch.randn(12, 500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> abs(cross_validated_length(noise).squared.mean()) < 0.02  # biased: 2 / 12
    tensor(True)
    >>> abs(cross_validated_length(noise + shift).squared.mean() - 25) < 0.5
    tensor(True)
    """
    d = in_floats(as_tensor(vectors, "vectors"), "vectors").to(WORKING)
    if d.ndim != 3 or len(d) < 2:
        raise BadInput(f"vectors must be (groups, time, units) of at least two groups, got {tuple(d.shape)}")
    w = torch.ones(len(d)) if weights is None else as_tensor(weights, "weights")
    w = w.to(d.device, WORKING)
    if w.shape != d.shape[:1] or not bool((w > 0).all()):
        raise BadInput(f"weights must be {len(d)} positive numbers, got {tuple(w.shape)}")
    scaled = (w[:, None, None] * d).transpose(0, 1)
    grams = scaled @ scaled.mT
    between = grams - torch.diag_embed(grams.diagonal(dim1=1, dim2=2))
    total, of_group = between.sum((1, 2)), between.sum(2)
    pairs, of_pair = w.sum().square() - w.square().sum(), 2 * w * (w.sum() - w)
    squared = total / pairs
    if len(d) < FEWEST:
        nothing = torch.full_like(squared, torch.nan)
        return CrossValidated(squared, nothing, nothing.expand(len(d), -1), w, grams)
    without = (total[:, None] - 2 * of_group).T / (pairs - of_pair)[:, None]
    return CrossValidated(squared, grouped_stderr(squared, without, w), without, w, grams)


def pattern_distances(means: Tensor, counts: Tensor) -> CrossValidated:
    """Mean over all pairs of conditions of their squared distance, from means (groups, conditions, time, units).

    counts: (groups, conditions) trials of each mean; groups that lack a condition are left out. It is the squared
    length of all patterns less their mean, since the mean over pairs of |a - b|^2 is 2 / (C - 1) times their scatter.

    >>> means = torch.tensor([0.0, 2.0, 4.0])[None, :, None, None].expand(3, 3, 1, 1)
    >>> round(float(pattern_distances(means, torch.ones(3, 3)).squared), 6)  # (4 + 4 + 16) / 3
    8.0
    """
    whole = (counts > 0).all(1)
    patterns = means[whole].to(WORKING)
    patterns = patterns - patterns.mean(1, keepdim=True)
    scale = (2 / (patterns.shape[1] - 1)) ** 0.5
    weights = 1 / (1 / counts[whole].to(WORKING)).sum(1)
    return cross_validated_length(scale * patterns.transpose(1, 2).flatten(2), weights)
