"""What may be a length is found among inputs, and samples are chosen that differ in it."""

from __future__ import annotations

import pytest
import torch

from geomfeat.activations.checks.sequence_lengths import Unseen, differing_rows, lengths_of


@pytest.mark.parametrize("k", [2, 3, 7])
def test_the_shortest_and_longest_sample_are_chosen_within_the_number(k: int) -> None:
    lengths = torch.full((100,), 5)
    lengths[[13, 14, 77]] = torch.tensor([1, 3, 9])
    rows = differing_rows([lengths], 100, k).tolist()
    assert len(rows) == len(set(rows)) == k
    assert {13, 77} <= set(rows)
    assert rows == sorted(rows)


def test_samples_that_do_not_differ_are_spread_evenly() -> None:
    assert lengths_of((torch.randn(9, 4), torch.full((9,), 3))) == []
    assert differing_rows([], 13, 7).tolist() == [0, 2, 4, 6, 8, 10, 12]


def test_padding_and_masks_are_lengths() -> None:
    ids = torch.tensor([[3, 4, 0], [5, 0, 0]])
    assert [t.tolist() for t in lengths_of(ids)] == [[2, 1]]
    assert [t.tolist() for t in lengths_of(torch.ones(2, 3, 2), ids != 0)] == [[2, 1]]


def test_one_batch_of_unseen_lengths_is_met_once() -> None:
    unseen = Unseen(torch.tensor([4, 4]))
    assert [unseen.in_batch(torch.tensor(t)) for t in ([4, 4], [5, 5], [4, 7], [1, 2])] == [False, False, True, False]
    assert not Unseen(torch.zeros(3, 2)).in_batch(torch.zeros(3, 2))
