"""Flags about training: each on a network that has what it says, and none of them on an ordinary one."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from geomfeat.location import LocateOptions, Location, locate
from geomfeat.location.regimes import BY_OPTIMIZER
from geomfeat.models.mlp import mlp
from geomfeat.regimes.training import train_at_gamma
from tests.geometry.clouds import normal

X, Y = normal(32, 6, seed=1), normal(32, 2, seed=2)
SGD, ADAM = partial(torch.optim.SGD, lr=0.1), partial(torch.optim.Adam, lr=0.003)


def network(act: Callable[[], nn.Module] = nn.ReLU, readout: float = 1.0) -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 40), act(), nn.Linear(40, 40), act(), nn.Linear(40, 2)).double()
    with torch.no_grad():
        net[4].weight.mul_(readout)
    return net


def trained(
    start: nn.Sequential, make: Callable[..., torch.optim.Optimizer], steps: int = 200, give: bool = False
) -> Location:
    end = copy.deepcopy(start)
    optimizer = make(end.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        (end(X) - Y).square().mean().backward()
        optimizer.step()
    return locate(
        end,
        X,
        initial=start,
        optimizer=optimizer if give else None,
        progress=False,
        options=LocateOptions(n_bootstrap=2, share_left=0.01),
    )


def said(found: Location, text: str) -> bool:
    return any(text in flag for flag in found.flags)


TEXTS = (
    "needs far more movement", "uses a part of the tangent kernel", "Moved by the optimizer",
    "Rate beyond the linear range", "as under rates in the ratio", "Not plain gradient descent", "Small read-out",
)  # fmt: skip


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU])
def test_an_ordinary_network_has_none_of_these_flags(act: Callable[[], nn.Module]) -> None:
    found = trained(network(act), SGD)
    assert [text for text in TEXTS if said(found, text)] == []


def with_rates(parameters: Sequence[Any]) -> torch.optim.Optimizer:
    parameters = list(parameters)
    return torch.optim.SGD([{"params": parameters[:2], "lr": 0.01}, {"params": parameters[2:], "lr": 0.1}])


def test_rates_by_layer_are_seen_where_the_optimizer_is_not_given() -> None:
    assert said(trained(network(), with_rates), "0 and 2 moved as under rates in the ratio 1 : 10")
    assert not said(trained(network(), with_rates, give=True), "as under rates")


def test_decay_is_named_by_the_weights_that_shrank() -> None:
    found = trained(network(), partial(SGD, weight_decay=0.2), steps=300)
    assert found.regime == BY_OPTIMIZER
    assert said(found, "weight decay.")
    assert "moved by the optimizer" in str(found)


def test_the_size_of_the_weights_is_that_of_the_weights_whatever_the_rates() -> None:
    """Decay shrinks slow layers less: in the coordinates of the rates the share would be another one."""
    start = network()
    end = copy.deepcopy(start)
    optimizer = torch.optim.SGD(
        [{"params": end[0].parameters(), "lr": 0.02}, {"params": end[2:].parameters(), "lr": 0.1}], weight_decay=0.2
    )
    for _ in range(300):
        optimizer.zero_grad()
        (end(X) - Y).square().mean().backward()
        optimizer.step()
    sizes = [math.sqrt(sum(float(p.detach().square().sum()) for p in net.parameters())) for net in (end, start)]
    options = LocateOptions(n_bootstrap=2, share_left=0.01)
    found = locate(end, X, initial=start, optimizer=optimizer, progress=False, options=options)
    assert said(found, f"Its weights shrank to {sizes[0] / sizes[1]:.0%} of their size: weight decay.")


def test_units_that_lost_their_balance_are_named() -> None:
    assert said(trained(network(), partial(SGD, weight_decay=0.1), steps=300), "Not plain gradient descent: the units")


def test_long_steps_of_adam_are_beyond_the_linear_range() -> None:
    assert said(trained(network(), partial(ADAM, lr=0.05), give=True), "Rate beyond the linear range: one step")
    assert not said(trained(network(), ADAM, give=True), "Rate beyond the linear range")


def test_a_small_readout_is_named() -> None:
    found = trained(network(readout=0.003), SGD)
    assert said(found, "Small read-out: the linear response multiplies 4.weight")


def test_a_target_on_a_part_of_the_kernel_is_seen() -> None:
    """Random classes of random inputs are learned along directions in which the kernel grows most."""
    torch.manual_seed(0)
    x, y = torch.randn(100, 20), torch.randint(0, 10, (100,))
    start = mlp(20, (64, 64), 10, seed=0)
    end = train_at_gamma(start, x, y, gamma=1.0, max_steps=100, progress=False).model
    found = locate(end, x, initial=start, progress=False, options=LocateOptions(n_bootstrap=2, share_left=0.01))
    assert found.kernel_demand_on_target - found.kernel_demand > 1.2
    assert said(found, "uses a part of the tangent kernel that moves more than the whole")
