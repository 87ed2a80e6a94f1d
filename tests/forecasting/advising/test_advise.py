"""Advice against closed forms, against the trainings that follow it, and on what cannot be advised."""

from __future__ import annotations

import copy
import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.forecasting.output_loss import output_loss
from geomfeat.location.demand import SHARES
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.regimes.training import with_scaled_outputs
from geomfeat.regimes.training.objective import loss_of
from tests.forecasting.test_forecast import digits, scalar_network

LITTLE = gf.ForecastOptions(n_bootstrap=2)
LINE = torch.tensor([[0.5], [1.0], [-1.0], [2.0]], dtype=torch.float64)
MADE: dict[str, Any] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.001),
}


def network(width: int = 24) -> nn.Module:
    return mlp(64, (width,), 10, activation="tanh", seed=0)


def forecast(net: nn.Module, loss: str = "mse", n: int = 20, **given: Any) -> gf.Forecast:
    x, y = digits()
    return gf.forecast(net, x[:n], y[:n], loss=loss, options=LITTLE, **{"target_loss": 0.2, **given})


@cache
def ordinary() -> gf.Forecast:
    net = network()
    return forecast(net, optimizer=MADE["SGD"](net.parameters()))


@pytest.mark.parametrize(("a", "w", "wanted"), [(0.5, 2.0, -1.5), (3.0, 0.2, 0.5)])
def test_the_multiplier_of_a_product_of_two_numbers_is_in_closed_form(a: float, w: float, wanted: float) -> None:
    """Of c (a w - a0 w0) x towards slope x: R = log10(q d |a / w| / (a^2 + w^2)) with d = (1 - sqrt(e)) slope / c."""
    slope, target = 4.0, 0.01
    expected = gf.forecast(scalar_network(a, w), LINE, slope * LINE, loss="mse", target_loss=target, options=LITTLE)
    advice = expected.advise(wanted, init_scale=False)
    share = sum(math.log10(1 - e**0.5) for e in SHARES) / len(SHARES)
    of_one = share + math.log10(slope * (1 - target**0.5) * abs(a / w) / (a * a + w * w))
    assert math.log10(advice.multiplier) == pytest.approx(of_one - wanted, abs=5e-4)
    assert advice.richness == pytest.approx(wanted, abs=5e-4)
    assert advice.best.kernel_demand - advice.richness == pytest.approx(_kappa_less_r(a, w), abs=0.01)


def _kappa_less_r(a: float, w: float) -> float:
    """Of that network: kappa = log10(q d / (K0 z*)) with z* = -2 m + sqrt(4 m^2 + c), c = .2; d and K0 drop out."""
    m, share = a * w / (a * a + w * w), sum(math.log10(1 - e**0.5) for e in SHARES) / len(SHARES)
    q = math.log10(1 - 0.01**0.5)
    return q - math.log10(-2 * m + math.sqrt(4 * m * m + 0.2)) - share - math.log10(abs(a / w))


class Diagonal(nn.Module):
    """x -> w x, entry by entry."""

    def __init__(self, size: int, alpha: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), alpha, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


class Summed(nn.Module):
    """The sum of the first half of the entries less that of the second: sum (u^D - v^D) x of a diagonal network."""

    def __init__(self, depth: int, alpha: float, size: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Diagonal(2 * size, alpha) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        plus, minus = self.layers(torch.cat([x, x], 1)).chunk(2, 1)
        return (plus - minus).sum(1, keepdim=True)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_initial_scale_of_diagonal_networks_is_in_closed_form(depth: int) -> None:
    """u = v = alpha: outputs 0, every layer's relative change beta / (2 D alpha^D), so that R falls by D a decade."""
    x = torch.randn(5, 3, generator=stream(0, "diagonal"), dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [0.5], [-1.0]], dtype=torch.float64)
    net = Summed(depth, 0.8)
    options = gf.ForecastOptions(n_bootstrap=2, layers=[f"layers.{k}" for k in range(depth)])
    expected = gf.forecast(net, x, y, loss="mse", target_loss=0.01, options=options)
    advice = expected.advise(expected.richness - 1.2)
    scales = set(advice.init_scale.values())
    assert len(scales) == 1
    assert len(advice.init_scale) == depth
    # The forecast stops within .03 decades of R.
    assert math.log10(scales.pop()) == pytest.approx(1.2 / depth, abs=0.03 / depth)
    assert math.isnan(advice.change("initial scale").multiplier)
    assert math.log10(advice.multiplier) == pytest.approx(1.2, abs=1e-3)
    assert advice.change("initial scale").richness == pytest.approx(advice.target, abs=0.03)
    # Gradient descent is alpha^(2 D - 2) as fast: the rate falls by that.
    factor = next(iter(advice.init_scale.values()))
    speed = advice.change("initial scale").rescaling.speed
    assert math.log10(speed) == pytest.approx((2 * depth - 2) * math.log10(factor), abs=1e-3)


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_r_and_kappa_fall_by_the_logarithm_of_the_multiplier_exactly(loss: str) -> None:
    one, seven = (forecast(with_scaled_outputs(network(), c), loss, target_loss=0.5) for c in (1.0, 7.0))
    # Of cross-entropy the explicit steps of the flow scale with the kernel, but for the precision of its eigenvalue.
    for name, near in (("richness", 1e-4), ("kernel_demand", 2e-3)):
        before, after = (np.array(found.details["by_change"][name]) for found in (one, seven))
        assert before - after == pytest.approx(math.log10(7), abs=near)


@pytest.mark.parametrize("word", ["lazy", "rich"])
def test_a_word_leads_to_its_regime(word: str) -> None:
    advice = ordinary().advise(word, init_scale=False)
    assert advice.word == word
    assert advice.best.regime == word
    assert advice.best.reached
    assert advice.richness == pytest.approx(advice.target, abs=0.01)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, loss: str) -> float:
    """The largest relative loss on the way of a full-batch training to a fifth of the loss of outputs 0."""
    x, y = digits()
    goal = output_loss(loss, y, 10)
    targets, largest = goal.targets.float() if loss == "mse" else goal.targets, 0.0
    for _ in range(4000):
        optimizer.zero_grad()
        value = loss_of(model(x), targets, loss)
        relative = float(value.detach()) / goal.unit
        largest = max(largest, relative)
        if relative <= 0.2:
            return largest
        value.backward()
        optimizer.step()
    raise AssertionError(f"not trained: the loss is {relative}")


@pytest.mark.parametrize(
    ("loss", "kind", "wanted"), [("mse", "SGD", -0.8), ("cross-entropy", "momentum", 0.3), ("mse", "AdamW", 0.5)]
)
def test_trainings_end_where_they_were_advised_to(loss: str, kind: str, wanted: float) -> None:
    net, (x, y) = network(), digits()
    optimizer = MADE[kind](net.parameters())
    advice = forecast(net, loss, optimizer=optimizer).advise(wanted, init_scale=False)
    assert advice.richness == pytest.approx(wanted, abs=0.01)
    model, groups = advice.apply(net, optimizer)
    initial = copy.deepcopy(model)
    assert trained(model, type(optimizer)(groups), loss) <= 1.001
    where = gf.locate(model, x, y, initial=initial, optimizer=type(optimizer)(groups), progress=False,
                      options=gf.LocateOptions(loss=loss, n_bootstrap=2))  # fmt: skip
    assert where.richness == pytest.approx(wanted, abs=0.15)
    assert torch.equal(net.get_parameter("fc1.weight"), network().get_parameter("fc1.weight"))


def test_a_rate_that_is_not_stable_is_lowered_to_one_that_is() -> None:
    net = network()
    fast = torch.optim.SGD(net.parameters(), lr=10 * ordinary().stable_rate)
    advice = forecast(net, optimizer=fast).advise(-1.0, init_scale=False)
    best = advice.best
    assert best.rate == pytest.approx(best.proposed_rate)
    assert "down to one that is stable" in best.reason
    assert advice.rates == (best.rate, best.stable_rate)
    model, groups = advice.apply(net, fast)
    assert groups[0]["lr"] == pytest.approx(best.proposed_rate)
    assert trained(model, torch.optim.SGD(groups), "mse") <= 1.001
    adam = torch.optim.Adam(net.parameters(), lr=1.0)
    lowered = forecast(net, optimizer=adam).advise(-1.0, init_scale=False).best
    assert lowered.rate < 0.1 / lowered.multiplier
    assert "down to one that is stable" in lowered.reason


def test_the_code_does_what_apply_does() -> None:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.003, weight_decay=0.02, betas=(0.8, 0.99))
    advice = forecast(net, optimizer=optimizer, n=12).advise(0.2, wider=network(48))
    x = digits()[0]
    for change in advice.changes:
        of = network(48) if change.kind == "rates by width" else net
        own = torch.optim.AdamW(of.parameters(), lr=0.003, weight_decay=0.02, betas=(0.8, 0.99))
        model, groups = change.apply(of, own)
        scope: dict[str, Any] = {"model": copy.deepcopy(of)}
        exec(change.code, scope)
        assert torch.equal(scope["model"](x), model(x))
        assert type(scope["optimizer"]) is torch.optim.AdamW
        for made, group in zip(scope["optimizer"].param_groups, groups, strict=True):
            for name in ("lr", "weight_decay", "eps", "betas"):
                assert made[name] == pytest.approx(group[name], rel=1e-5)
            assert [p.shape for p in made["params"]] == [p.shape for p in group["params"]]


@pytest.mark.parametrize("made", [MADE["SGD"], lambda p: torch.optim.Adam(p, lr=0.001)], ids=["SGD", "Adam"])
def test_rates_by_width_keep_every_layer_where_it_is(made: Any) -> None:
    """In muP R does not depend on the width, so that the multipliers differ by m^-1/2."""
    narrow, wide = network(64), network(256)
    expected = forecast(narrow, optimizer=made(narrow.parameters()))
    advice = expected.advise(-0.5, wider=wide, init_scale=False)
    change, one = advice.change("rates by width"), advice.change("output multiplier")
    assert change.richness == pytest.approx(-0.5, abs=0.01)
    assert math.log10(change.multiplier / one.multiplier) == pytest.approx(-0.5 * math.log10(4), abs=0.05)
    optimizer = made(wide.parameters())
    _, groups = change.apply(wide, optimizer)
    assert len(groups) > 1
    with pytest.raises(BadInput, match="wider= has the widths"):
        expected.advise(-0.5, wider=network(64), init_scale=False)
    with pytest.raises(BadInput, match="wider= is no wider copy"):
        expected.advise(-0.5, wider=mlp(64, (24, 24), 10), init_scale=False)


def test_without_an_optimizer_or_with_rates_alone() -> None:
    net = network()
    advice = forecast(net, n=12).advise("lazy", init_scale=False)
    assert advice.best.rate == advice.best.proposed_rate > 0
    _, (group,) = advice.apply(net)
    assert group["lr"] == pytest.approx(advice.best.proposed_rate)
    assert f"lr={advice.best.rate:.6g}" in advice.code
    by_pattern = forecast(net, n=12, optimizer={"*": 0.01}).advise("lazy", init_scale=False)
    assert by_pattern.best.rate == pytest.approx(0.01 / by_pattern.multiplier**2)
    assert by_pattern.richness == pytest.approx(advice.richness, abs=1e-6)


def test_a_number_of_steps_ends_the_changed_training_too() -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.005)
    expected = forecast(net, optimizer=optimizer, n=12, target_loss=None, n_steps=40)
    advice = expected.advise(expected.richness - 0.5, init_scale=False)
    assert advice.richness == pytest.approx(advice.target, abs=0.01)
    assert advice.best.rate == pytest.approx(0.005 / advice.multiplier**2)
    # So many steps teach a richer network as much only at a higher rate, up to one that is stable.
    richer = expected.advise(expected.richness + 0.3, init_scale=False)
    assert richer.richness == pytest.approx(richer.target, abs=0.01)
    assert richer.best.rate == pytest.approx(0.005 / richer.multiplier**2)
    far = expected.advise(expected.richness + 1.5, init_scale=False).best
    assert far.rate <= far.proposed_rate < 0.005 / far.multiplier**2
    assert far.richness < expected.richness + 1.49


def test_a_place_that_is_there_needs_no_change() -> None:
    lazy = with_scaled_outputs(network(), 50.0)
    advice = forecast(lazy, optimizer=MADE["SGD"](lazy.parameters())).advise("lazy")
    (change,) = advice.changes
    assert (change.kind, advice.start, change.verified) == ("as it is", change.richness, True)
    model, groups = advice.apply(lazy, MADE["SGD"](lazy.parameters()))
    assert groups[0]["lr"] == pytest.approx(0.01)
    assert torch.equal(model(digits()[0]), lazy(digits()[0]))
    # Asked for a number, the multipliers multiply.
    number = forecast(lazy).advise(advice.start + 0.3, init_scale=False)
    assert number.apply(lazy)[0].output_multiplier == pytest.approx(50 * number.multiplier)
    assert math.log10(number.multiplier) == pytest.approx(-0.3, abs=1e-3)


def test_it_shows_and_writes_itself() -> None:
    advice = ordinary().advise(-0.6, init_scale=False)
    lines = str(advice).splitlines()
    assert lines[0].startswith("to R = -0.60 from ")
    assert "lazier by" in lines[0] if advice.start > -0.6 else "richer by" in lines[0]
    again = json.loads(advice.to_json())
    assert again["changes"][0]["multiplier"] == advice.multiplier
    assert again["changes"][0]["rescaling"]["multiplier"] == advice.multiplier
    assert list(advice.to_frame()["change"]) == ["output multiplier"]
    with pytest.raises(BadInput, match="no change 'magic'"):
        advice.apply(network(), None, kind="magic")


def test_forecasts_that_hold_no_untrained_network_are_refused() -> None:
    expected = ordinary()
    read = gf.Forecast.from_json(expected.to_json())
    with pytest.raises(BadInput, match=r"was read from a file.*geomfeat\.forecast\(model"):
        read.advise("rich")
    net = network()
    before = forecast(net)
    with torch.no_grad():
        net.get_parameter("head.bias").add_(0.01)
    with pytest.raises(BadInput, match=r"'head\.bias' differs"):
        before.advise("rich")


def test_targets_out_of_reach_are_named() -> None:
    expected = ordinary()
    with pytest.raises(BadInput, match="target='richer'"):
        expected.advise("richer")
    with pytest.raises(BadInput, match=r"target: R = -9\.00 takes an output multiplier of 10\^"):
        expected.advise(-9.0)
    net = network()
    for p in net.get_submodule("head").parameters():
        nn.init.zeros_(p)
    with pytest.raises(BadInput, match="no hidden layer is moved"):
        forecast(net, "cross-entropy", target_loss=0.9).advise("rich")
    head = gf.ForecastOptions(n_bootstrap=2, params="head.*")
    x, y = digits()
    with pytest.raises(BadInput, match="no hidden layer is moved"):
        gf.forecast(network(), x, y, loss="mse", target_loss=0.5, options=head).advise("lazy")


def test_what_limits_the_forecast_limits_the_advice() -> None:
    advice = ordinary().advise(1.8, init_scale=False)
    assert advice.flags[0].startswith("R > 1.5 is asked for")
