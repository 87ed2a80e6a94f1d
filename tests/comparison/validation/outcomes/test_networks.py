"""The networks of the families: they compute what they say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomfeat.comparison.validation.outcomes.networks import (
    Diagonal,
    Doubled,
    RateNetwork,
    ResidualBlocks,
    TwoLayers,
)

X = torch.randn(7, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_diagonal_network_is_a_linear_model_of_powers(depth: int) -> None:
    net = Diagonal(10, depth, 0.5)
    assert torch.equal(net(X), torch.zeros(7, 1, dtype=torch.float64))
    with torch.no_grad():
        net.w.add_(0.1 * torch.arange(20, dtype=torch.float64))
    u, v = net.w.detach().chunk(2)
    torch.testing.assert_close(net(X)[:, 0], X @ (u**depth - v**depth))
    assert len(net.hidden) == depth - 1


def test_a_doubled_network_starts_at_zero_and_moves_apart() -> None:
    net = Doubled(nn.Linear(10, 2)).double()
    assert not net(X).any()
    with torch.no_grad():
        net.get_submodule("plus").get_parameter("weight").add_(1.0)
    assert bool(net(X).all())


@pytest.mark.parametrize("relu", [True, False])
def test_imbalance_changes_the_layers_and_not_the_function(relu: bool) -> None:
    even, uneven = (TwoLayers(10, 40, 2, 0.5, imbalance, 3, relu).double() for imbalance in (1.0, 16.0))
    torch.testing.assert_close(even(X), uneven(X), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(uneven.head.weight, 4 * even.head.weight)
    torch.testing.assert_close(4 * uneven.first.weight, even.first.weight)


def test_recurrent_weights_have_their_rank_and_gain() -> None:
    full, low = (RateNetwork(10, 400, 2, 1.5, rank, 1).recur.weight.detach() for rank in (None, 3))
    assert int(torch.linalg.matrix_rank(low)) == 3
    for weight in (full, low):
        assert float(weight.square().mean()) == pytest.approx(1.5**2 / 400, rel=0.15)
    assert RateNetwork(10, 20, 2, 1.0, None, 0).double()(X).shape == (7, 2)


def test_a_residual_network_without_blocks_weights_is_linear() -> None:
    net = ResidualBlocks(10, 8, 2, 3).double()
    with torch.no_grad():
        for block in net.blocks:
            block.get_submodule("2").get_parameter("weight").zero_()
            block.get_submodule("2").get_parameter("bias").zero_()
    torch.testing.assert_close(net(X), net.head(net.stem(X)))
