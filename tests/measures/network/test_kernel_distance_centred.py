"""Centred kernel distance: blind to what all samples share (more in test_kernel_relative_change)."""

from __future__ import annotations

import pytest
import torch

from geomfeat.measures.network.kernel_distance import kernel_distance
from geomfeat.measures.network.kernel_distance_centred import kernel_distance_centred
from tests.measures.network.pairs import pair_of


class WithOffset(torch.nn.Module):
    """f(x) = w.x + offset^2 / 2: the kernel is x.x' + offset^2, a constant on top of a fixed one."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.full((1, 3), offset))  # it acts on no kernel, but has to move to be in it
        self.offset = torch.nn.Parameter(torch.tensor([offset]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.w.T + self.offset.square() / 2


def test_a_constant_added_to_the_kernel_is_no_movement_when_centred() -> None:
    pair = pair_of(WithOffset(0.0), WithOffset(2.0), torch.eye(4, 3), layers=())
    assert kernel_distance_centred(pair)[""]["distance_centred"].value == pytest.approx(0, abs=1e-12)
    # K0 = diag(1, 1, 1, 0), K = K0 + 4: cosine (3 + 12) / (sqrt 3 sqrt(3 * 25 + 13 * 16)).
    assert kernel_distance(pair)[""]["distance"].value == pytest.approx(1 - 15 / (3 * 283) ** 0.5, rel=1e-9)


def test_a_layer_that_gives_every_sample_the_same_gradient_fails_alone() -> None:
    rows = kernel_distance_centred(pair_of(WithOffset(1.0), WithOffset(2.0), torch.eye(4, 3), layers=()))
    assert rows["w"]["distance_centred"].ok
    assert not rows["offset"]["distance_centred"].ok
    assert "constant" in rows["offset"]["distance_centred"].note
