"""Means of groups and conditions: by hand, with one group left out, and of trials without groups."""

from __future__ import annotations

import numpy as np
import torch

from geomfeat.numerics import stream
from geomfeat.recordings import Recording
from geomfeat.recordings.group_means import group_means

CONDITION = np.array(list("aabbbabaab"))
RUN = np.array([1, 1, 1, 2, 2, 2, 3, 3, 3, 3])
X = torch.randn(10, 4, 5, generator=stream(0, "group means"), dtype=torch.float64)


def test_means_are_those_of_each_run_and_condition() -> None:
    found = group_means(Recording(X, CONDITION, run=RUN, time=np.arange(5)), "auto")
    assert (found.said, found.means.shape) == ("3 runs", (3, 2, 5, 4))
    for g, run in enumerate((1, 2, 3)):
        for c, name in enumerate("ab"):
            rows = torch.as_tensor((run == RUN) & (name == CONDITION))
            assert found.counts[g, c] == int(rows.sum())
            torch.testing.assert_close(found.means[g, c], X[rows].mean(0).T)


def test_a_group_left_out_is_left_out_of_the_mean_over_all_trials() -> None:
    found = group_means(Recording(X, CONDITION, run=RUN, time=np.arange(5)), "auto")
    for c, name in enumerate("ab"):
        torch.testing.assert_close(found.of_all[c], X[torch.as_tensor(name == CONDITION)].mean(0).T)
        rest = torch.as_tensor((name == CONDITION) & (RUN != 2))
        torch.testing.assert_close(found.without(1)[c], X[rest].mean(0).T)
    torch.testing.assert_close(found.take_units(torch.tensor([2])).means[..., 0], found.means[..., 2])


def test_trials_without_groups_take_turns_within_their_condition() -> None:
    found = group_means(Recording(X, CONDITION, time=np.arange(5)), "auto")
    assert found.said == "5 parts of the trials"
    assert found.counts.tolist() == [[1, 1]] * 5
    torch.testing.assert_close(found.means[3, 0], X[7].T)  # the fourth a
