"""The balance of units: kept by plain descent, in the ratio of the rates, lost under Adam, and asked of ReLU only."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from geomfeat.location.unit_balance import UnitBalance, unit_balances
from geomfeat.models.functional import functional
from tests.geometry.clouds import normal

X, Y = normal(40, 6, seed=1), normal(40, 2, seed=2)


def network(act: Callable[[], nn.Module], bias: bool = True) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(6, 30, bias=bias), act(), nn.Linear(30, 30, bias=bias), act(), nn.Linear(30, 2)
    ).double()  # fmt: skip


def balances(net: nn.Sequential, optimizer: torch.optim.Optimizer, steps: int = 150) -> list[UnitBalance]:
    start = functional(copy.deepcopy(net))
    for _ in range(steps):
        optimizer.zero_grad()
        (net(X) - Y).square().mean().backward()
        optimizer.step()
    return unit_balances(start, functional(net).theta, X)


@pytest.mark.parametrize("act", [nn.ReLU, nn.Identity, nn.LeakyReLU])
@pytest.mark.parametrize("bias", [True, False])
def test_plain_descent_keeps_the_balance_in_the_ratio_of_its_rates(act: Callable[[], nn.Module], bias: bool) -> None:
    net = network(act, bias)
    rates = (0.004, 0.02, 0.02)
    groups = [{"params": net[i].parameters(), "lr": rate} for i, rate in zip((0, 2, 4), rates, strict=True)]
    found = balances(net, torch.optim.SGD(groups))
    assert [(one.first, one.second) for one in found] == [("0", "2"), ("2", "4")]
    assert found[0].log_ratio == pytest.approx(math.log10(5), abs=0.05)
    assert found[1].log_ratio == pytest.approx(0.0, abs=0.05)
    assert min(one.cosine for one in found) > 0.99


def test_decay_does_not_keep_it() -> None:
    net = network(nn.ReLU)
    found = balances(net, torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1))
    assert min(one.cosine for one in found) < 0.6


def test_units_that_are_not_homogeneous_are_not_asked() -> None:
    net = network(nn.Tanh)
    assert balances(net, torch.optim.SGD(net.parameters(), lr=0.1)) == []


def test_a_layer_that_did_not_move_says_nothing() -> None:
    net = network(nn.ReLU)
    net[0].requires_grad_(False)
    net[2].requires_grad_(False)
    assert balances(net, torch.optim.SGD(net[4].parameters(), lr=0.1)) == []
