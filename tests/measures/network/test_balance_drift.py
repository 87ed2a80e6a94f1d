"""Balance of adjacent layers: conserved by small steps, broken by decay; lambda read from a trained pair."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from geomfeat.measures.network._adjacent_layers import adjacent_linear_layers
from geomfeat.measures.network.balance_drift import balance_drift
from geomfeat.models.linear import linear
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import balanced_network
from tests.measures.network.pairs import pair_of

X = torch.randn(40, 6, generator=stream(0, "probes"), dtype=WORKING)


def network(balance: float) -> nn.Sequential:
    net = linear(6, (4,), 5).to(WORKING)
    w1, w2 = balanced_network(6, 4, 5, balance, 0.1)
    net.load_state_dict({"fc1.weight": w1, "head.weight": w2})
    return net


def trained(net: nn.Module, decay: float, rate: float = 0.01, steps: int = 200) -> nn.Module:
    net = copy.deepcopy(net)
    y = X @ torch.randn(6, 5, generator=stream(0, "map"), dtype=WORKING)
    descent = torch.optim.SGD(net.parameters(), lr=rate, weight_decay=decay)
    for _ in range(steps):
        descent.zero_grad()
        (0.5 * (net(X) - y).square().sum(1).mean()).backward()
        descent.step()
    for p in net.parameters():
        p.grad = None
    return net


def drift(net: nn.Module, after: nn.Module):
    return balance_drift(pair_of(net, after, X, layers=()))["fc1"]["drift"]


@pytest.mark.parametrize("balance", [-2.0, 0.0, 2.0])
def test_descent_conserves_it_in_proportion_to_its_step(balance: float) -> None:
    net = network(balance)
    coarse, fine = (drift(net, trained(net, 0.0, 0.02 / k, 100 * k)).value for k in (1, 4))
    assert coarse < 0.02
    assert coarse / fine == pytest.approx(4, rel=0.15)


def test_decay_shrinks_lambda_at_twice_its_rate() -> None:
    # dB/dt = -2 decay B under the flow with decay: from lambda = 2, by e^{-2 * .1 * 2}.
    net = network(2.0)
    found = drift(net, trained(net, 0.1, 0.002, 1000))
    assert found.note.startswith("with head: lambda 2 -> 1.34")
    assert found.value > 0.02


def test_pairs_are_layers_that_chain() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.Linear(6, 2))
    assert {name: two.upper for name, two in adjacent_linear_layers(net).items()} == {"0": "2"}
    row = balance_drift(pair_of(nn.Linear(3, 2), nn.Linear(3, 2), X[:, :3], layers=()))[""]["drift"]
    assert not row.ok
    assert "by hand" in row.note
