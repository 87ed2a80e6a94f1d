"""Phases of training at a fixed rate, and the largest stable rate: quadratics, factors, wide linear nets, slopes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from geomfeat.data._load_data import load_data
from geomfeat.errors import BadInput
from geomfeat.models import build
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.regimes.linearization import lazy_limit, linearize
from geomfeat.regimes.stability import (
    StabilityReport,
    StableRates,
    descend_at_rate,
    largest_stable_lr,
    sharpness,
    training_flags,
)
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from tests.reference.lazy import descend

F64 = torch.float64
X = torch.randn(10, 8, generator=stream(0, "stability test"), dtype=F64)
Y = X @ torch.randn(8, 1, generator=stream(1, "stability test"), dtype=F64) / 8**0.5
ONE = torch.ones(1, 1, dtype=F64)


class WideProduct(nn.Module):
    """f(x) = v'u x / sqrt(n), the model of Lewkowycz et al. 2020, section 2, with weights drawn N(0, 1)."""

    def __init__(self, n: int, seed: int = 0) -> None:
        super().__init__()
        g = stream(seed, "wide product")
        self.u, self.v = (nn.Parameter(torch.randn(n, generator=g, dtype=F64)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.u @ self.v) / len(self.u) ** 0.5 * x


def phase(model: nn.Module, lr: float, steps: int = 200, x=ONE, y=0 * ONE, **options) -> StabilityReport:
    run = descend_at_rate(model, x, y, lr=lr, steps=steps, sharpness_every=steps // 20, **options)
    return training_flags(run.losses, run.sharpness, run.lr)


@pytest.mark.parametrize(("share", "want"), [(0.5, "flow"), (0.99, "flow"), (1.01, "diverged"), (3.0, "diverged")])
def test_a_quadratic_diverges_above_two_over_lambda(share, want):
    model = nn.Linear(8, 1, bias=False).double()
    top = 2 / 10 * float(torch.linalg.matrix_norm(X, 2)) ** 2
    report = phase(model, share * 2 / top, x=X, y=Y)
    assert report.phase == want
    assert report.start == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize(("ratio", "want"), [(1.0, "flow"), (2.5, "catapult"), (3.5, "catapult"), (4.5, "diverged")])
@pytest.mark.parametrize("seed", range(2))
def test_a_wide_product_is_catapulted_between_two_and_four_over_lambda(ratio, want, seed):
    model = WideProduct(2000, seed)
    # L = f^2: in the wide limit the Hessian is 2 K, K = (|u|^2 + |v|^2)/n.
    kernel = float((model.u.square().sum() + model.v.square().sum()).detach()) / 2000
    report = phase(model, ratio / (2 * kernel), centered=False)
    assert report.phase == want
    assert report.start == pytest.approx(ratio / 2, rel=0.06)
    if want == "catapult":
        assert report.highest > 10
        assert report.end < 1
        assert report.last < 1e-3


def test_the_edge_of_stability_is_seen_where_curvature_grows_to_it():
    data = load_data("digits", n=60)
    x, y = data.inputs.to(F64), data.labels
    model = mlp(64, (24, 24), 10, activation="relu", seed=0).double()
    at_start = sharpness(model, x, y, initial=model).top
    edge = phase(model, 1.0 / at_start, steps=400, x=x, y=y)
    flow = phase(model, 0.1 / at_start, steps=400, x=x, y=y)
    assert edge.phase == "edge of stability"
    assert edge.start == pytest.approx(0.5, rel=1e-3)
    assert 0.95 < edge.end < 1.15
    assert edge.rises > 0.1
    assert edge.last < 0.05
    assert flow.phase == "flow"
    assert flow.end < 0.5
    assert flow.rises == 0.0


def test_recorded_sharpness_and_losses_are_those_of_the_trained_network():
    model = mlp(8, (6,), 1, activation="tanh", seed=0).double()
    run = descend_at_rate(model, X, Y, lr=0.05, steps=20, gamma=0.7, sharpness_every=10)
    assert sorted(run.sharpness) == [0, 10, 20]
    again = sharpness(run.model, X, Y, initial=model, gamma=0.7)
    assert run.sharpness[20] == pytest.approx(again.top, rel=1e-3)
    unit = float(Y.square().mean())
    want = descend(model, X, Y, 0.7, 20, lambda p: torch.optim.SGD(p, lr=0.05 * unit))
    for p, q in zip(run.model.parameters(), want.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-9)
    # The same rate in the convention of the knob: lr = eta * loss(f = 0) / gamma^2.
    knob = train_at_gamma(
        model, X, Y, gamma=0.7, lr=0.05 * unit / 0.49, max_steps=20, options=TrainOptions(momentum=0, back_off=False)
    )
    assert run.losses[-1] == pytest.approx(unit * knob.train_loss, rel=1e-9)


def test_flags_by_hand():
    down = [0.9**i for i in range(61)]
    wiggling = [v * (1.3 if i % 4 == 0 else 1.0) for i, v in enumerate(down)]
    assert training_flags(down, {}, 1.0).phase == "flow"
    assert training_flags(down, {0: 1.0, 60: 2.02}, 1.0).phase == "flow"  # at 2 / eta, but without rises
    edge = training_flags(wiggling, {0: 1.0, 50: 2.02, 60: 2.1}, 1.0)
    assert (edge.phase, edge.flags) == ("edge of stability", {"edge of stability"})
    assert (edge.start, edge.end) == (0.5, 1.05)
    assert training_flags(wiggling, {0: 1.0, 60: 1.0}, 1.0).phase == "flow"
    assert training_flags([1, 3, *down], {0: 3.0, 62: 1.0}, 1.0).phase == "catapult"
    assert training_flags([1, 3, *down], {}, 1.0).phase == "catapult"
    assert training_flags([1, 3, *down], {0: 1.5, 62: 1.0}, 1.0).phase == "flow"  # it began below 2 / eta
    broken = training_flags([1.0, math.inf], {}, 1.0)
    assert (broken.phase, broken.highest, broken.last) == ("diverged", math.inf, math.inf)


def test_the_largest_stable_rate_of_a_linear_model_is_two_over_lambda():
    network = linearize(mlp(8, (12,), 1, activation="tanh", seed=0).double())
    want = lazy_limit(network, X, Y, centered=True).largest_lr / float(Y.square().mean())
    found = largest_stable_lr(network, X, Y, [0.1, 10.0], steps=100, precision=0.02)
    for gamma, rate in zip(found.gammas, found.rates[:, 0], strict=True):
        assert float(rate) == pytest.approx(want * gamma**2, rel=0.03)
    assert found.slope(0.1, 10.0)[0] == pytest.approx(2.0, abs=0.01)


def deep_linear(depth: int, seeds: int) -> list[nn.Module]:
    hidden = (8,) * (depth - 1)
    return [
        build("linear", inputs=8, hidden=hidden, outputs=1, parameterization="ntk", seed=s).double()
        for s in range(seeds)
    ]


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_slopes_of_deep_linear_networks_are_two_and_two_over_depth(depth):
    gammas = [1e-3, 1e-2, 3e-2, 1e2, 3e2, 1e3]
    nets = deep_linear(depth, 2)
    found = largest_stable_lr(nets, X, Y, gammas, steps=150, precision=0.03, ceiling=10)
    assert found.rates.shape == found.above.shape == (6, 2)
    assert found.slope(1e-3, 3e-2)[0] == pytest.approx(2.0, abs=0.03)
    assert found.slope(1e2, 1e3)[0] == pytest.approx(2 / depth, abs=0.05)
    for s, net in enumerate(nets):  # in the lazy limit it is 2 / curvature of the start
        lazy = 2 / sharpness(net, X, Y, initial=net, gamma=1e-3).top
        assert float(found.rates[0, s]) == pytest.approx(lazy, rel=0.06)


def test_without_a_ceiling_catapults_pass():
    nets = deep_linear(2, 2)
    low = largest_stable_lr(nets, X, Y, [0.03], steps=100, precision=0.05, ceiling=2.0).rates
    high = largest_stable_lr(nets, X, Y, [0.03], steps=100, precision=0.05).rates
    assert 1.3 < float((high / low).mean()) < 2.2
    rate = float(0.9 * high[0, 0])
    run = descend_at_rate(nets[0], X, Y, lr=rate, steps=100, gamma=0.03, sharpness_every=10)
    assert training_flags(run.losses, run.sharpness, rate).phase == "catapult"


@pytest.mark.parametrize("kind", ["mlp", "cnn", "lstm"])
def test_rates_found_together_part_stable_from_unstable_training_alone(kind):
    options = {"mlp": {"hidden": (8,)}, "cnn": {"channels": (3, 3)}, "lstm": {"hidden": 4}}[kind]
    model = build(kind, outputs=2, seed=0, **options).double()
    x, y = torch.randn(4, 1, 8, 8, generator=stream(2, kind), dtype=F64), torch.tensor([0, 1, 1, 0])
    found = largest_stable_lr(model, x, y, [0.1], steps=15, precision=0.3)
    below, above = float(found.rates), float(found.above)
    assert below < above < 1.31 * below
    for rate, diverges in ((below, False), (above, True)):
        run = descend_at_rate(model, x, y, lr=rate, steps=15, gamma=0.1)
        assert (not run.losses[-1] < run.losses[0]) == diverges


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: training_flags([1.0], {}, 1.0), "at least two"),
        (lambda: training_flags([1.0, 0.5], {}, 0.0), "lr=0.0"),
        (lambda: training_flags([1.0, 0.5], {7: 1.0}, 1.0), "losses of 2 steps"),
        (lambda: descend_at_rate(mlp(8, (3,), 1), X, Y, lr=0.0, steps=3), "lr=0.0"),
        (lambda: descend_at_rate(mlp(8, (3,), 1), X, Y, lr=1.0, steps=3, gamma=-1.0), "gamma=-1.0"),
        (lambda: descend_at_rate(mlp(8, (3,), 1), X, Y[:3], lr=1.0, steps=3), "3 entries"),
        (lambda: largest_stable_lr([], X, Y, [1.0]), "got 0 and 1"),
        (lambda: largest_stable_lr(mlp(8, (3,), 1), X, Y, [0.0]), "gamma=0.0"),
        (lambda: largest_stable_lr(mlp(8, (3,), 1), X, Y, [1.0], steps=1), "steps=1"),
        (lambda: largest_stable_lr(mlp(8, (3,), 1), X, Y, [1.0], ceiling=1.0), "ceiling=1.0"),
        (lambda: largest_stable_lr([mlp(8, (3,), 1), mlp(8, (4,), 1)], X, Y, [1.0]), "one architecture"),
        (lambda: largest_stable_lr(mlp(8, (3,), 1), X, Y[:3], [1.0]), "3 entries"),
        (lambda: largest_stable_lr(nn.Linear(8, 1), X, Y, [1.0], steps=9).slope(1, 2), "two gammas"),
        (lambda: StableRates((1.0, 2.0), torch.tensor([[math.nan], [1]]), torch.ones(2, 1), 9).slope(1, 2), "gamma 1"),
        (lambda: largest_stable_lr(mlp(8, (3,), 1), X, 0 * Y, [1.0]), "all zero"),
        (lambda: largest_stable_lr(mlp(8, (3,), 1), X * math.nan, Y, [1.0]), "outputs on the inputs"),
        (lambda: descend_at_rate(mlp(8, (3,), 1), X * math.nan, Y, lr=1.0, steps=3), "outputs on the inputs"),
        (lambda: descend_at_rate(mlp(8, (3,), 1), X, Y * math.nan, lr=1.0, steps=3), "targets holds"),
    ],
)
def test_bad_input_is_reported(make, said):
    with pytest.raises(BadInput, match=said):
        make()
