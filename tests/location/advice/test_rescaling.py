"""Rescaled optimizers: on a network that is linear in its weights scaled outputs follow the same path, exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.location.advice.rescaling import Rescaling, rescaled_groups
from geomfeat.numerics import stream
from geomfeat.regimes.training.output_multiplier import with_scaled_outputs

DOUBLE = torch.float64
X = torch.randn(8, 4, generator=stream(0, "rescaling"), dtype=DOUBLE)
Y = torch.randn(8, 2, generator=stream(0, "rescaling", "y"), dtype=DOUBLE)

MADE: dict[str, Any] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05, eps=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.02, eps=0.01),
}


def linear() -> nn.Module:
    net = nn.Linear(4, 2).double()
    for p in net.parameters():
        nn.init.normal_(p, generator=stream(0, "rescaling", "w"))
    return net


def path(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor = X, steps: int = 12) -> Tensor:
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        out = net(x)
        found.append(out.detach())
        (out - Y).square().mean().backward()
        optimizer.step()
    return torch.stack(found)


@pytest.mark.parametrize("kind", MADE)
def test_the_outputs_of_a_linear_network_follow_the_same_path(kind: str) -> None:
    net = linear()
    one = with_scaled_outputs(net, 1.0)
    ten = with_scaled_outputs(net, 10.0)
    plain = path(one, MADE[kind](one.parameters()))
    groups = rescaled_groups(net, ten, MADE[kind](net.parameters()), Rescaling(10.0))
    scaled = path(ten, type(MADE[kind](net.parameters()))(groups))
    assert float(plain[-1].abs().max()) > 0.1
    assert torch.allclose(plain, scaled, atol=1e-9)


@pytest.mark.parametrize(
    ("made", "shrinks"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.02), (1 - 0.1 * 0.02) ** 12),
        (lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.02), (1 - 0.1 * 0.02) ** 12),
    ],
    ids=["SGD", "AdamW"],
)
def test_weights_without_a_gradient_shrink_as_before(made: Any, shrinks: float) -> None:
    net, x = linear(), X.clone()
    x[:, 3] = 0
    ten = with_scaled_outputs(net, 10.0)
    optimizer = type(made(net.parameters()))(rescaled_groups(net, ten, made(net.parameters()), Rescaling(10.0)))
    path(ten, optimizer, x)
    assert isinstance(net, nn.Linear)
    assert torch.allclose(ten.get_parameter("weight")[:, 3], shrinks * net.weight[:, 3])


def test_rates_are_not_raised_and_decay_keeps_its_share_of_training() -> None:
    net = linear()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.02)
    (group,) = rescaled_groups(net, net, sgd, Rescaling(0.1))
    # Learning takes 1 / .01 as long at this rate, so decay is .01 of what it was.
    assert (group["lr"], group["weight_decay"]) == (pytest.approx(0.1), pytest.approx(0.02 * 0.01))


def test_groups_and_their_own_rates_stay_apart() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    given = torch.optim.SGD(
        [{"params": net[0].parameters(), "lr": 0.4}, {"params": net[1].parameters(), "momentum": 0.5}], lr=0.1
    )
    torch.optim.lr_scheduler.LinearLR(given, 0.1)  # a warm-up, whose rates at the start are not those to rescale
    changed = with_scaled_outputs(net, 2.0)
    groups = rescaled_groups(net, changed, given, Rescaling(2.0, by_parameter={"1.bias": 3.0}))
    said = [(len(g["params"]), pytest.approx(g["lr"]), g["momentum"]) for g in groups]
    assert said == [(2, 0.1, 0), (1, 0.025, 0.5), (1, 0.075, 0.5)]
    own = dict(changed.named_parameters())
    assert groups[2]["params"] == [own["1.bias"]]
    assert [g["lr"] for g in given.param_groups] == [pytest.approx(0.04), pytest.approx(0.01)]


def test_rates_alone_and_no_optimizer() -> None:
    net = linear()
    (group,) = rescaled_groups(net, net, {"*": 0.1}, Rescaling(2.0))
    assert set(group) == {"lr", "params"}
    assert group["lr"] == pytest.approx(0.025)
    (group,) = rescaled_groups(net, net, None, Rescaling(2.0), rate=0.3)
    assert group["lr"] == 0.3
    with pytest.raises(BadInput, match="no rate is known"):
        rescaled_groups(net, net, None, Rescaling(2.0))
    with pytest.raises(BadInput, match="optimizer"):
        rescaled_groups(net, net, torch.optim.SGD(nn.Linear(3, 3).parameters(), lr=0.1), Rescaling(2.0))
