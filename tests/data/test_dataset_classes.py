"""Classes of a data set with any numbers, as a training takes them."""

from __future__ import annotations

import torch

from geomfeat.data.dataset import Dataset


def test_other_numbers_become_classes_from_zero_with_those_of_the_test() -> None:
    data = Dataset(
        torch.zeros(3, 2), torch.tensor([20, 10, 20]), test_inputs=torch.zeros(2, 2), test_labels=torch.tensor([30, 10])
    )
    found = data.numbered()
    assert found.labels.tolist() == [1, 0, 1]
    assert found.test_labels.tolist() == [2, 0]
    assert found.classes == ("10", "20", "30")


def test_what_is_numbered_or_named_stays() -> None:
    plain = Dataset(torch.zeros(3, 2), torch.tensor([1, 0, 1]))
    named = Dataset(torch.zeros(2, 2), torch.tensor([5, 7]), classes=tuple("abcdefgh"))
    bare = Dataset(torch.zeros(2, 2))
    assert all(data.numbered() is data for data in (plain, named, bare))
