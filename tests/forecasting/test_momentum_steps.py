"""Steps with momentum of the linearised network: those of torch's optimizer on the linearised module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import geomfeat as gf
from geomfeat.forecasting.linear_training import train_linearly
from geomfeat.forecasting.momentum_steps import train_by_momentum
from geomfeat.forecasting.optimizer_facts import optimizer_facts
from geomfeat.forecasting.output_loss import output_loss
from geomfeat.models.functional import functional
from geomfeat.numerics import stream
from geomfeat.regimes.linearization.linearized_module import linearize
from geomfeat.regimes.training.objective import loss_of
from geomfeat.tangent import ntk
from geomfeat.tangent.optimizer_rates import OptimizerRates
from tests.forecasting.test_linear_training import drawn, network


@pytest.mark.parametrize("kind", ["cross-entropy", "mse"])
def test_the_steps_are_those_of_torch_on_the_linearised_module(kind: str) -> None:
    net, x, y = network(), drawn(5, 4), torch.arange(5) % 3
    loss, rate = output_loss(kind, y, 3), {"cross-entropy": 0.3, "mse": 0.03}[kind]
    kernel, f0 = ntk(functional(net), x, outputs="full").gram, net(x).detach()
    flat, steps = linearize(net), 0
    rule = torch.optim.SGD(flat.parameters(), lr=rate, momentum=0.9)
    while float(loss_of(flat(x), loss.targets, kind).detach()) > 0.1 * loss.unit:
        rule.zero_grad()
        loss_of(flat(x), loss.targets, kind).backward()
        rule.step()
        steps += 1
    found = train_by_momentum(kernel, f0, loss, rate=rate, momentum=0.9, target=0.1)
    assert found is not None
    assert found.time == pytest.approx(10 * rate * steps)
    assert torch.allclose(found.change, flat(x).detach() - f0, atol=1e-9)
    assert torch.allclose((kernel @ found.coefficients.flatten()).view(5, 3), found.change)
    flow = train_linearly(kernel, f0, loss, target=0.1)
    assert float((flow.change - found.change).norm() / found.change.norm()) > 0.02  # so few steps are no flow
    cut = train_by_momentum(kernel, f0, loss, rate=rate, momentum=0.9, target=0.1, n_steps=steps - 1)
    assert cut is not None
    assert not cut.reached
    assert cut.loss > 0.1 >= found.loss


def test_many_steps_are_the_flow_and_steps_that_diverge_are_left_to_it() -> None:
    kernel, f0 = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64)), torch.zeros(2, 1, dtype=torch.float64)
    loss = output_loss("mse", torch.tensor([[1.0], [2.0]]), 1)
    slow = train_by_momentum(kernel, f0, loss, rate=2e-3, momentum=0.5, target=0.1)
    flow = train_linearly(kernel, f0, loss, target=0.1)
    assert slow is not None
    assert torch.allclose(slow.change, flow.change, atol=0.01)
    assert slow.time == pytest.approx(flow.time, rel=0.02)
    assert train_by_momentum(kernel, f0, loss, rate=1e-5, momentum=0.9, target=0.1) is None
    assert train_by_momentum(kernel, f0, loss, rate=50.0, momentum=0.9, target=1e-9) is None


def test_a_lazy_training_of_few_steps_with_momentum_goes_where_it_was_forecasted() -> None:
    """By the flow R would be .2 lower: modes that are learned first go beyond their targets."""
    x = torch.randn(24, 6, generator=stream(0, "momentum", "x"))
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = gf.at_richness(nn.Sequential(nn.Linear(6, 48), nn.Tanh(), nn.Linear(48, 3)), gamma=0.02)
    ask: dict[str, Any] = {"loss": "mse", "target_loss": 0.5, "options": gf.ForecastOptions(n_bootstrap=2)}
    flow = gf.forecast(net, x, y, optimizer={"*": 1.0}, **ask)
    rule = torch.optim.SGD(net.parameters(), lr=flow.proposed_rate, momentum=0.9)
    expected = gf.forecast(net, x, y, optimizer=rule, **ask)
    options = gf.PlainOptions(optimizer="sgd", lr=flow.proposed_rate, momentum=0.9, target_loss=0.5, max_steps=100)
    run = gf.train_plainly(net, x, y, loss="mse", options=options)
    where = gf.locate(run.trained, x, y, initial=run.initial, options=gf.LocateOptions(n_bootstrap=2), progress=False)
    assert expected.steps == run.steps
    assert expected.richness == pytest.approx(where.richness, abs=0.01)
    assert where.richness - flow.richness > 0.15
    assert not any("momentum still builds up" in flag for flag in expected.flags)


@pytest.mark.parametrize(
    ("more", "plain"),
    [({}, True), ({"nesterov": True}, False), ({"dampening": 0.1}, False), ({"momentum": 0.0}, False)],
)
def test_only_momentum_of_the_first_form_is_followed_by_its_steps(more: dict[str, Any], plain: bool) -> None:
    weights = {"w": nn.Parameter(torch.ones(2))}
    optimizer = torch.optim.SGD(weights.values(), lr=0.1, **{"momentum": 0.9, **more})
    assert optimizer_facts(optimizer, OptimizerRates({"w": 0.1}), weights).plain_momentum == plain
