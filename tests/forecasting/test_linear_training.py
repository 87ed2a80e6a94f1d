"""Training of the linearised network: closed forms, and small steps of the linearised module."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from geomfeat.forecasting import linear_training
from geomfeat.forecasting.linear_training import train_linearly
from geomfeat.forecasting.output_loss import OutputLoss, output_loss
from geomfeat.models.functional import functional
from geomfeat.numerics import stream
from geomfeat.regimes.linearization.linearized_module import linearize
from geomfeat.regimes.training.objective import loss_of
from geomfeat.tangent import ntk

DOUBLE = torch.float64


def drawn(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(shape, generator=stream(0, "linear training", name), dtype=DOUBLE)


def network() -> nn.Module:
    layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    for i, p in enumerate(layers.parameters()):
        p.data = 0.5 * drawn(*p.shape, name=f"p{i}")
    return layers


def by_small_steps(net: nn.Module, x: Tensor, loss: OutputLoss, target: float, rate: float) -> tuple[Tensor, float]:
    """Change of the outputs and time of plain descent of the linearised module, to the target."""
    flat, steps = linearize(net), 0
    start = flat(x).detach()
    optimizer = torch.optim.SGD(flat.parameters(), lr=rate)
    while True:
        value = loss_of(flat(x), loss.targets, loss.kind)
        if float(value.detach()) <= target * loss.unit:
            return flat(x).detach() - start, steps * rate
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        steps += 1


@pytest.mark.parametrize("kind", ["cross-entropy", "mse"])
def test_the_flow_is_that_of_small_steps_of_the_linearised_module(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y = network(), drawn(5, 4), torch.arange(5) % 3
    loss = output_loss(kind, y, 3)
    kernel, f0 = ntk(functional(net), x, outputs="full").gram, net(x).detach()
    slow, time = by_small_steps(net, x, loss, 0.3, rate={"cross-entropy": 0.012, "mse": 0.003}[kind])
    found = train_linearly(kernel, f0, loss, target=0.3)
    assert found.reached
    assert found.loss == pytest.approx(0.3)
    assert float((found.change - slow).norm() / slow.norm()) < 0.02
    assert found.time == pytest.approx(time, rel=0.1)  # steps near their limit learn a little faster than the flow
    assert torch.allclose((kernel @ found.coefficients.flatten()).view(5, 3), found.change)
    monkeypatch.setattr(linear_training, "STEP", dict.fromkeys(linear_training.STEP, 0.02))
    fine = train_linearly(lambda v: (kernel @ v.flatten()).view_as(v), f0, loss, target=0.3)
    assert float((fine.change - slow).norm() / slow.norm()) < 0.003
    assert fine.time == pytest.approx(time, rel=0.01)


def test_the_mean_square_without_a_formed_kernel_is_nearly_the_closed_form() -> None:
    root = drawn(12, 12, name="kernel")
    kernel, start, loss = root @ root.mT, drawn(6, 2, name="f"), output_loss("mse", drawn(6, 2, name="y"), 2)
    modes = train_linearly(kernel, start, loss, target=0.2)
    steps = train_linearly(lambda v: (kernel @ v.flatten()).view_as(v), start, loss, target=0.2)
    assert modes.loss == pytest.approx(0.2)
    assert steps.loss == pytest.approx(0.2)
    assert float((modes.change - steps.change).norm() / modes.change.norm()) < 0.05


def test_slow_modes_are_learned_by_implicit_steps_as_by_many_explicit_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    basis = torch.linalg.qr(drawn(12, 12, name="basis"))[0]
    kernel = (basis * torch.logspace(0, -4, 12, dtype=DOUBLE)) @ basis.mT
    start, loss = torch.zeros(4, 3, dtype=DOUBLE), output_loss("cross-entropy", torch.arange(4) % 3, 3)
    found, before = train_linearly(kernel, start, loss, target=0.1), linear_training.EXPLICIT
    monkeypatch.setattr(linear_training, "EXPLICIT", 10**5)
    slow = train_linearly(kernel, start, loss, target=0.1)
    monkeypatch.setattr(linear_training, "EXPLICIT", 30)
    mostly = train_linearly(kernel, start, loss, target=0.1)
    assert slow.time > before * 3.5 * 4  # steps of 3.5 n
    for other in (found, mostly):
        assert other.reached
        assert other.loss == pytest.approx(0.1)
        assert float((other.change - slow.change).norm() / slow.change.norm()) < 0.03
        assert other.time == pytest.approx(slow.time, rel=0.15)
        assert float((other.coefficients - slow.coefficients).norm() / slow.coefficients.norm()) < 0.1
    later = train_linearly(kernel, start, loss, target=None, longest=slow.time)
    assert later.time == slow.time
    assert later.loss == pytest.approx(0.1, rel=0.1)  # implicit steps learn a little later than the flow


def test_each_mode_of_the_mean_square_decays_at_its_own_rate() -> None:
    kernel, y = torch.diag(torch.tensor([4.0, 1.0], dtype=DOUBLE)), torch.tensor([[1.0], [2.0]], dtype=DOUBLE)
    found = train_linearly(kernel, 0 * y, output_loss("mse", y, 1), target=None, longest=0.5)
    assert found.time == 0.5
    assert not found.reached
    wanted = [1 * (1 - math.exp(-4 * 0.5)), 2 * (1 - math.exp(-0.5))]  # exp(-w s) with s = 2 t / n, n = 2
    assert found.change.flatten().tolist() == pytest.approx(wanted)


def test_what_the_kernel_cannot_reach_is_left() -> None:
    kernel, y = torch.diag(torch.tensor([1.0, 0.0], dtype=DOUBLE)), torch.tensor([[1.0], [2.0]], dtype=DOUBLE)
    found = train_linearly(kernel, 0 * y, output_loss("mse", y, 1), target=0.5)
    assert not found.reached
    assert found.unreachable == pytest.approx(0.8)
    assert found.change.flatten().tolist() == pytest.approx([1 - linear_training.LAST_SHARE**0.5, 0.0])
    assert found.loss == pytest.approx(0.8 + 0.2 * linear_training.LAST_SHARE)


@pytest.mark.parametrize("kind", ["cross-entropy", "mse"])
def test_slope_and_curvature_of_a_loss_are_those_of_autograd(kind: str) -> None:
    f, v = drawn(4, 3, name="f").requires_grad_(), drawn(4, 3, name="v")
    loss = output_loss(kind, torch.tensor([0, 2, 1, 2]), 3)
    (slope,) = torch.autograd.grad(loss_of(f, loss.targets, kind), f, create_graph=True)
    (bent,) = torch.autograd.grad((slope * v).sum(), f)
    at = f.detach()
    assert torch.allclose(loss.slope(at), slope.detach())
    assert torch.allclose(loss.root(at, loss.root(at, v, transposed=True)), bent)
    assert torch.allclose(loss.curved(at, v[:, :, None])[:, :, 0], bent)
    assert float((v * bent).sum()) <= loss.steepest_at(f) * float(v.square().sum())
    assert loss.relative(torch.zeros_like(at)) == pytest.approx(1.0)
