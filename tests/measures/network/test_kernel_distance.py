"""Kernel distance: blind to scale, a right angle for kernels without overlap (more in test_kernel_relative_change)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomfeat.measures.network.kernel_distance import kernel_distance
from tests.measures.network.pairs import pair_of


class Product(nn.Module):
    """f(x) = a u.x with scalar a: K = (u.x)(u.x') + a^2 x.x'."""

    def __init__(self, a: float, u: list[float]) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[a]]))
        self.u = nn.Parameter(torch.tensor([u]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.u.T @ self.a


def test_a_kernel_that_turns_from_one_direction_to_the_other() -> None:
    x = torch.eye(2)
    # a = 0: K = u u' on the unit vectors. e1 -> e2: no overlap at all; e1 -> (e1 + e2)/sqrt 2: cosine 1/2.
    # a moves too, if by next to nothing, or it would be no part of the kernel.
    start = Product(1e-9, [1.0, 0.0])
    turned = {"far": [0.0, 1.0], "half": [0.5**0.5, 0.5**0.5], "longer": [3.0, 0.0]}
    values = {
        name: kernel_distance(pair_of(start, Product(0.0, u), x, layers=()))[""]["distance"].value
        for name, u in turned.items()
    }
    assert values["far"] == pytest.approx(1, abs=1e-7)
    assert values["half"] == pytest.approx(0.5, abs=1e-6)
    assert values["longer"] == pytest.approx(0, abs=1e-12)


def test_groups_are_the_parameters_of_the_model_itself() -> None:
    rows = kernel_distance(pair_of(Product(1.0, [1.0, 0.0]), Product(2.0, [1.0, 1.0]), torch.eye(2), layers=()))
    assert set(rows) == {"", "a", "u"}
    # The kernel of u is a^2 x.x': it only grows.
    assert rows["u"]["distance"].value == pytest.approx(0, abs=1e-12)
