"""Stable rates against descents that converge below them and diverge above."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.forecasting.stable_rate import place_of_rate, stable_rate
from geomfeat.regimes.stability import sharpness
from geomfeat.regimes.training.objective import loss_of, prepared_targets


def linear_network() -> tuple[nn.Module, Tensor, Tensor]:
    """Linear in its trained parameters, with a hidden layer: the second one is frozen."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    net.get_submodule("1").requires_grad_(False)
    x = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    return net, x, (x[:, 0] > 0).long()


def growth(rate: float, momentum: float) -> float:
    """Loss after 300 steps of descent over that after 150, above the least loss of all."""
    net, x, y = linear_network()
    goal = prepared_targets(y, "mse", 2, torch.float64)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=rate, momentum=momentum)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        value = loss_of(net(x), goal, "mse")
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return losses[-1] / losses[150]


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_descent_on_a_quadratic_loss_diverges_just_above_the_rate(momentum: float) -> None:
    net, x, y = linear_network()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.01, momentum=momentum)
    expected = gf.forecast(net, x, y, loss="mse", target_loss=0.8, optimizer=optimizer)
    assert expected.kernel_demand == -math.inf
    assert growth(0.98 * expected.stable_rate, momentum) < 1 + 1e-9
    assert growth(1.02 * expected.stable_rate, momentum) > 10
    assert expected.proposed_rate == pytest.approx(expected.stable_rate / (2 + 2 * momentum))
    assert expected.rate_share == pytest.approx(0.01 / expected.stable_rate)
    assert expected.rate_place == "flow"


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_the_curvature_is_that_of_the_hessian_where_the_network_is_linear(loss: str) -> None:
    net, x, y = linear_network()
    expected = gf.forecast(net, x, y, loss=loss, target_loss=0.8)
    assert expected.curvature == pytest.approx(sharpness(net, x, y, loss=loss).top, rel=1e-5)


def test_rates_by_group_have_one_stable_mean() -> None:
    """The Hessian is then that in parameters over the roots of the rates."""
    net, x, y = linear_network()
    mixed = gf.forecast(net, x, y, loss="mse", target_loss=0.8, optimizer={"0.weight": 0.01, "0.bias": 0.04})
    j = torch.cat(
        [torch.kron(x, net.get_parameter("1.weight")), torch.ones(12, 1).double().kron(net.get_parameter("1.weight"))],
        1,
    ).detach()
    rates = torch.tensor([0.01] * 12 + [0.04] * 4, dtype=torch.float64)
    largest = torch.linalg.eigvalsh(2 / 12 * (j * rates) @ j.mT).max()
    assert mixed.rate == pytest.approx((12 * 0.01 + 4 * 0.04) / 16)
    assert mixed.steps == pytest.approx(mixed.time / mixed.rate)
    assert mixed.rate_share == pytest.approx(float(largest) / 2, rel=1e-5)


def test_the_rule_is_lower_for_a_kernel_that_will_move() -> None:
    assert stable_rate(4.0, -math.inf) == stable_rate(4.0, 0.5) == 0.5
    assert stable_rate(4.0, 2.5) == pytest.approx(0.005)
    assert stable_rate(4.0, math.nan, momentum=0.5) == 0.75
    assert stable_rate(0.0, 0.0) == math.inf


def test_a_kernel_that_cannot_change_does_not_catapult() -> None:
    assert place_of_rate(0.3, 0.2, -math.inf) == "divergence"
    assert place_of_rate(0.3, 0.2, -3.0) == "catapult"
    assert place_of_rate(math.nan, 0.2, 0.0) == place_of_rate(0.1, math.nan, 0.0) == ""
