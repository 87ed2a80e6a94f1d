"""Halving chunks while memory runs out, and measuring what a backward pass keeps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomfeat.errors import OutOfMemory
from geomfeat.kernels._memory import free_bytes, saved_bytes, with_smaller_chunks
from geomfeat.models.functional import functional


def test_halves_down_to_what_fits() -> None:
    tried = []

    def work(budget: int) -> int:
        tried.append(budget)
        if budget > 10:
            raise MemoryError
        return budget

    assert with_smaller_chunks(work, 64, 3, lambda: "") == 8
    assert tried == [64, 32, 16, 8]


def test_gives_up_after_the_smallest_with_the_remedy() -> None:
    tried = []

    def work(budget: int) -> int:
        tried.append(budget)
        raise MemoryError

    with pytest.raises(OutOfMemory, match="buy more"):
        with_smaller_chunks(work, 10, 4, lambda: "buy more")
    assert tried == [10, 5, 4]


def test_saved_bytes_count_activations_and_not_parameters() -> None:
    # tanh keeps its 6 outputs, the last layer its 6 inputs (the same tensor), the first layer its 100 inputs.
    model = nn.Sequential(nn.Linear(100, 6), nn.Tanh(), nn.Linear(6, 2))
    total, largest = saved_bytes(functional(model), torch.ones(5, 100, dtype=torch.float64))
    assert (total, largest) == (106 * 8, 100 * 8)


def test_free_bytes(device: str) -> None:
    assert free_bytes(torch.device(device)) > 2**20
