"""Mean responses of each group (run, session) to each condition, over time: what cross-validation is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from geomfeat.numerics import WORKING
from geomfeat.recordings.trial_labels import codes_of
from geomfeat.statistics.group_errors import MOST, parts_of

if TYPE_CHECKING:
    from geomfeat.recordings._recording import Recording


@dataclass(frozen=True, eq=False)
class GroupMeans:
    """Means (groups, conditions, time, units), their numbers of trials (groups, conditions), and what groups are."""

    means: Tensor
    counts: Tensor
    said: str

    @property
    def of_all(self) -> Tensor:
        """(conditions, time, units) the mean over all trials."""
        return self.without(-1)

    def without(self, group: int) -> Tensor:
        """The mean over all trials but those of one group."""
        weights = self.counts.clone()
        if group >= 0:
            weights[group] = 0
        return torch.einsum("gc,gctn->ctn", weights / weights.sum(0), self.means)

    def take_units(self, units: Tensor) -> GroupMeans:
        """The same of some of the units."""
        return GroupMeans(self.means[..., units], self.counts, self.said)


def group_means(recording: Recording, groups: str | None) -> GroupMeans:
    """See `GroupMeans`; a mean without trials is 0, and so is its count.

    Where trials are not grouped, the first of each condition are one part, the second ones another, and so on, at most
    32: trials are then taken to be independent.
    """
    word = recording.group_word if groups == "auto" else groups
    given = recording.groups_by(groups)
    condition = codes_of(recording.condition)
    part = parts_of(given if given is not None else _turn(condition.numpy()))
    parts, conditions = int(part.max()) + 1, int(condition.max()) + 1
    cell = part * conditions + condition
    counts = torch.bincount(cell, minlength=parts * conditions).to(WORKING)
    sums = torch.zeros(len(counts), *recording.x.shape[1:], dtype=WORKING)
    means = sums.index_add_(0, cell, recording.x.to(WORKING)) / counts.clamp_min(1)[:, None, None]
    means = means.reshape(parts, conditions, *recording.x.shape[1:]).transpose(2, 3)
    count = parts if given is None else len(torch.unique(given))
    said = f"{count} parts of the trials" if given is None else f"{count} {word}s"
    return GroupMeans(means, counts.reshape(parts, conditions), said)


def _turn(condition: np.ndarray) -> Tensor:
    """How many trials of the same condition came before each trial."""
    out = np.empty(len(condition), dtype=np.int64)
    for code in np.unique(condition):
        there = np.flatnonzero(condition == code)
        out[there] = np.arange(len(there))
    return torch.from_numpy(out) % MOST
