"""The linearised network under the user's own optimizer."""

from __future__ import annotations

import math

import torch
from torch import nn

from geomfeat.forecasting.optimizer_run import run_linearised
from geomfeat.forecasting.output_loss import output_loss
from geomfeat.regimes.training.objective import loss_of
from tests.forecasting.test_stable_rate import linear_network

MADE = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.5),
}


def by_hand(net: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, steps: int) -> float:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(net(x), y, "cross-entropy").backward()
        optimizer.step()
    return float(loss_of(net(x), y, "cross-entropy").detach()) / math.log(2)


def test_it_is_the_training_of_a_network_that_is_linear() -> None:
    for name, make in MADE.items():
        net, x, y = linear_network()
        before = [p.detach().clone() for p in net.parameters()]
        optimizer = make([p for p in net.parameters() if p.requires_grad])
        loss = output_loss("cross-entropy", y, 2)
        run = run_linearised(net, optimizer, x, loss, readout=None, target=0.4)
        assert run is not None
        assert run.reached
        assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True)), name
        assert not optimizer.state
        reached = by_hand(net, optimizer, x, y, run.steps)
        assert abs(reached - run.loss) < 1e-9, name
        assert torch.allclose(net.get_parameter("0.weight") - before[0], run.step["0.weight"]), name
        assert reached <= 0.4


def test_it_goes_on_from_the_optimizers_own_state_at_the_rate_before_the_schedule() -> None:
    net, x, y = linear_network()
    optimizer = MADE["Adam"]([p for p in net.parameters() if p.requires_grad])
    by_hand(net, optimizer, x, y, 3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step == 0 else 1.0)
    assert optimizer.param_groups[0]["lr"] == 0.0
    loss = output_loss("cross-entropy", y, 2)
    run = run_linearised(net, optimizer, x, loss, readout=None, target=None, most=5)
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["initial_lr"]
    before = net.get_parameter("0.weight").detach().clone()
    by_hand(net, optimizer, x, y, 5)
    assert run is not None
    assert (run.steps, run.reached) == (5, False)
    assert torch.allclose(net.get_parameter("0.weight") - before, run.step["0.weight"])


def test_an_optimizer_of_other_parameters_is_not_run() -> None:
    net, x, y = linear_network()
    other = torch.optim.Adam(nn.Linear(2, 2).parameters())
    loss = output_loss("cross-entropy", y, 2)
    assert run_linearised(net, other, x, loss, readout=None, target=0.5) is None
