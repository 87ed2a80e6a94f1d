"""How large differences between conditions are beside the noise of a trial."""

from __future__ import annotations

import torch
from torch import Tensor

from geomfeat.numerics import WORKING
from geomfeat.types import Representation


def signal_to_noise(area: Representation) -> float:
    """Variance of the condition means over that of a single trial around them, both summed over units.

    Products of trials of different groups alone are used (of different trials where nothing groups them), so that the
    noise of the means adds nothing to the signal, and what a run adds to all its trials counts as noise. Around 0, and
    below it by chance, where conditions do not differ. NaN where fewer than two conditions have trials in two groups.

    area: (trials, units) with labels, and groups or None.
    """
    assert area.labels is not None
    x, labels = area.x.to(WORKING), area.labels
    x = x - x.mean(0)  # no number depends on it, but sums of squares of a large baseline would lose digits
    conditions = int(labels.max()) + 1
    own = x.square().sum(1)
    counts = torch.bincount(labels, minlength=conditions).to(WORKING)
    sums = _summed(x, labels, conditions)
    squares = _summed(own[:, None], labels, conditions)[:, 0]
    within, pairs_within = squares.diag(), counts.diag()  # of pairs that are of one group
    if area.groups is not None:
        within, pairs_within = torch.zeros_like(within), torch.zeros_like(within)
        for group in area.groups.unique():
            rows = area.groups == group
            part = _summed(x[rows], labels[rows], conditions)
            there = torch.bincount(labels[rows], minlength=conditions).to(WORKING)
            within, pairs_within = within + part @ part.T, pairs_within + torch.outer(there, there)
    pairs = torch.outer(counts, counts) - pairs_within
    products = torch.where(pairs > 0.5, (sums @ sums.T - within) / pairs.clamp_min(1), torch.nan)
    first, second = torch.triu_indices(conditions, conditions, 1)
    mean_square = products.diagonal()
    # Half the mean squared distance between two conditions is the variance over conditions.
    apart = (mean_square[first] + mean_square[second]) / 2 - products[first, second]
    noise = squares / counts - mean_square
    return float(apart.nanmean() / noise.nanmean())


def _summed(x: Tensor, labels: Tensor, conditions: int) -> Tensor:
    return torch.zeros(conditions, x.shape[1], dtype=WORKING).index_add_(0, labels, x)
