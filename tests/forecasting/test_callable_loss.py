"""Losses of one's own: the known ones written as functions, curvature against explicit Hessians, bad functions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.forecasting.callable_loss import callable_loss
from geomfeat.forecasting.output_loss import output_loss
from geomfeat.forecasting.own_loss_flow import flow_on
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING
from tests.forecasting.test_forecast import LITTLE, digits

FEW = gf.ForecastOptions(n_bootstrap=2, n_probes=10)
NUMBERS = (
    "richness", "kernel_demand", "initial_loss", "loss_reached", "time", "curvature", "stable_rate", "movement",
)  # fmt: skip


def squares(f: Tensor, y: Tensor) -> Tensor:
    return (f - (F.one_hot(y, 10).to(f) - 0.1)).square().sum(1)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=WORKING)


def test_the_mean_square_as_a_function_is_the_named_one() -> None:
    """Its flow is integrated step by step; that of the named loss is in closed form."""
    x, y = digits()
    net = gf.at_richness(mlp(64, (12,), 10, seed=0), gamma=0.2)
    ask: dict[str, Any] = {"target_loss": 0.3, "options": FEW}
    own, named = gf.forecast(net, x, y, loss=squares, **ask), gf.forecast(net, x, y, loss="mse", **ask)
    for name in NUMBERS:
        assert getattr(own, name) == pytest.approx(getattr(named, name), rel=1e-6, abs=1e-6), name
    assert (own.loss, named.loss) == ("squares", "mse")
    assert any("off is not known" in flag for flag in own.flags)
    assert own.high - own.low > named.high - named.low


def test_cross_entropy_as_a_function_is_the_named_one() -> None:
    """All that is of the start is the same. The named one ends after coarser steps, which move R by less than .01."""
    x, y = digits()
    net = mlp(64, (12,), 10, seed=0)
    ask: dict[str, Any] = {"target_loss": 0.3, "options": FEW}
    own, named = (
        gf.forecast(net, x, y, loss=F.cross_entropy, **ask),
        gf.forecast(net, x, y, loss="cross-entropy", **ask),
    )
    for name in ("initial_loss", "loss_reached", "curvature"):
        assert getattr(own, name) == pytest.approx(getattr(named, name), rel=1e-6), name
    assert own.readout == named.readout == "outputs less their mean"
    assert own.richness == pytest.approx(named.richness, abs=0.01)
    assert own.time == pytest.approx(named.time, rel=0.05)


def test_the_flow_on_a_function_is_that_on_the_named_loss() -> None:
    n, c = 6, 3
    y, root, start = torch.arange(n) % c, random(n * c, n * c), random(n, c, seed=1)
    gram = root @ root.mT
    named, own = output_loss("cross-entropy", y, c), callable_loss(F.cross_entropy, y, c)
    product = lambda v: (gram @ v.flatten()).view_as(v)  # noqa: E731
    one, other = (flow_on(product, gram, 1.0, start, loss, target=0.1) for loss in (named, own))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=1e-6, atol=1e-6)
    assert one.reached
    torch.testing.assert_close(one.change, product(one.coefficients))
    assert named.relative(start + one.change) == pytest.approx(0.1, rel=1e-7)
    # As by ten thousand explicit steps.
    f, h = start.clone(), one.time / 20_000
    for _ in range(20_000):
        f = f - h * product(named.slope(f))
    torch.testing.assert_close(f, start + one.change, rtol=2e-3, atol=2e-3)


def test_a_target_out_of_reach_ends_where_nothing_more_is_learned() -> None:
    """Half of the targets lie in the null space of the kernel."""
    gram = torch.diag(torch.tensor([1.0, 3.0, 0.0, 0.0], dtype=WORKING))
    own = callable_loss(lambda f, y: (f - y).square().sum(1), torch.ones(4, 1), 1)
    found = flow_on(lambda v: gram @ v, gram, 3.0, torch.zeros(4, 1, dtype=WORKING), own, target=0.2)
    assert not found.reached
    assert found.loss == pytest.approx(0.5, abs=1e-3)
    torch.testing.assert_close(found.change[2:], torch.zeros(2, 1, dtype=WORKING))


def test_explicit_steps_get_to_the_same_end() -> None:
    """Where derivatives are products only: within what steps of a tenth of the loss leave."""
    n, c = 6, 3
    y, root, start = torch.arange(n) % c, random(n * c, n * c), random(n, c, seed=1)
    gram = root @ root.mT + torch.eye(n * c, dtype=WORKING)
    own, product = callable_loss(F.cross_entropy, y, c), lambda v: (gram @ v.flatten()).view_as(v)
    largest = float(torch.linalg.eigvalsh(gram).max())
    exact = flow_on(product, gram, largest, start, own, target=0.3)
    steps = flow_on(product, None, largest, start, own, target=0.3)
    assert steps.reached
    assert float((steps.change - exact.change).norm() / exact.change.norm()) < 0.1
    assert own.relative(start + steps.change) == pytest.approx(0.3, rel=1e-6)


@pytest.mark.parametrize("kind", ["mse", "cross-entropy"])
def test_slope_and_curvature_are_those_of_the_named_loss(kind: str) -> None:
    y = torch.arange(8) % 10
    own = callable_loss(squares if kind == "mse" else F.cross_entropy, y, 10)
    named, f, v = output_loss(kind, y, 10), random(8, 10), random(8, 10, seed=1)
    assert own.by_sample
    assert own.unit == pytest.approx(named.unit, rel=1e-12)
    torch.testing.assert_close(own.slope(f), named.slope(f))
    torch.testing.assert_close(own.curved(f, v[..., None]), named.curved(f, v[..., None]))
    twice = own.root(f, own.root(f, v, transposed=True))
    torch.testing.assert_close(twice, named.root(f, named.root(f, v, transposed=True)))


def spread(f: Tensor, y: Tensor) -> Tensor:
    """Of one sample beside the others, and not convex."""
    return 1 + (f - f.mean(0)).square().mean() - torch.sin(f.sum()) + y.sum() * 0


def test_curvature_of_samples_that_are_not_apart_is_the_positive_part_of_the_whole_hessian() -> None:
    loss, f = callable_loss(spread, torch.zeros(5), 2), random(5, 2)
    assert not loss.by_sample
    whole = torch.autograd.functional.hessian(lambda g: spread(g, loss.targets), f).view(10, 10)
    values, vectors = torch.linalg.eigh(whole)
    assert float(values.min()) < -0.1
    positive = (vectors * values.clamp_min(0)) @ vectors.mT
    torch.testing.assert_close(loss.curved(f, torch.eye(10, dtype=WORKING).view(5, 2, 10)).view(10, 10), positive)
    assert loss.steepest_at(f) == pytest.approx(float(values.max()))


def test_a_loss_without_curvature_is_followed_and_flagged() -> None:
    x, y = digits()
    net = mlp(64, (12,), 1, seed=0)
    found = gf.forecast(
        net, x, y.float()[:, None] + 1.0, loss=lambda f, t: (f - t).abs().sum(1), target_loss=0.3, options=FEW
    )  # fmt: skip
    assert found.curvature == pytest.approx(0.0, abs=1e-12)
    assert found.loss_reached == pytest.approx(0.3, rel=1e-6)
    assert any("no curvature at the start" in flag for flag in found.flags)
    assert math.isfinite(found.richness)


def test_an_optimizer_takes_it_and_advice_too() -> None:
    x, y = digits()
    net = gf.at_richness(mlp(64, (12,), 10, seed=0), gamma=0.2)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    ask: dict[str, Any] = {"target_loss": 0.5, "options": FEW, "optimizer": adam}
    own, named = gf.forecast(net, x, y, loss=squares, **ask), gf.forecast(net, x, y, loss="mse", **ask)
    assert own.steps == named.steps > 0
    assert own.movement == pytest.approx(named.movement, abs=1e-5)
    assert own.advise(-1.5, init_scale=False).richness == pytest.approx(-1.5, abs=0.02)
    assert gf.Forecast.from_json(own.to_json()).loss == "squares"


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "end": (squares, {}, "squares is a function whose minimum is not known"),
    "shape": (lambda f, y: f, {"target_loss": 0.5}, "must return one number"),
    "type": (lambda f, y: 1.0, {"target_loss": 0.5}, "must return one number"),
    "detached": (lambda f, y: f.detach().sum(), {"target_loss": 0.5}, "no gradient in the outputs"),
    "sign": (lambda f, y: f.square().sum() - 1, {"target_loss": 0.5}, "is -1 at outputs 0"),
    "finite": (lambda f, y: 1 + f.sum() * math.inf, {"target_loss": 0.5}, "at outputs 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_functions_are_named(case: str) -> None:
    x, y = digits()
    loss, more, message = BAD[case]
    with pytest.raises(BadInput, match=message):
        gf.forecast(mlp(64, (8,), 10, seed=0), x, y, loss=loss, options=LITTLE, **more)


def test_a_module_is_a_function_and_has_a_name() -> None:
    x, y = digits()
    found = gf.forecast(mlp(64, (8,), 10, seed=0), x, y, loss=nn.CrossEntropyLoss(), target_loss=0.5, options=LITTLE)
    assert found.loss == "CrossEntropyLoss"
