"""Forecasts against closed forms, trainings whose end is known, and trainings of small networks."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.forecasting._forecast import expected_richness
from geomfeat.forecasting.stable_rate import place_of_rate
from geomfeat.location.demand import SHARES
from geomfeat.models.mlp import mlp
from tests.forecasting.test_stable_rate import linear_network

LITTLE = gf.ForecastOptions(n_bootstrap=2)


@cache
def digits() -> tuple[Tensor, Tensor]:
    data = gf.load_data("digits", split="train", n=20)
    assert data.labels is not None
    return data.inputs.flatten(1), data.labels


def scalar_network(a: float, w: float) -> nn.Module:
    """f = a w x."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    for p, value in zip(net.parameters(), (w, a), strict=True):
        nn.init.constant_(p, value)
    return net


@pytest.mark.parametrize(("a", "w"), [(0.5, 2.0), (3.0, 0.2), (1.5, -1.0)])
def test_a_product_of_two_numbers_has_the_closed_form(a: float, w: float) -> None:
    """With K0 = a^2 + w^2 and q = 1 - sqrt(e), R = log10(q |d| |a / w| / K0)."""
    x = torch.tensor([[0.5], [1.0], [-1.0], [2.0]], dtype=torch.float64)
    slope, target = 4.0, 0.01  # the flow leaves a tenth of the targets 4 x
    expected = gf.forecast(scalar_network(a, w), x, slope * x, loss="mse", target_loss=target, options=LITTLE)
    d, k0 = slope * (1 - target**0.5) - a * w, a * a + w * w
    share = sum(math.log10(1 - e**0.5) for e in SHARES) / len(SHARES)
    assert expected.richness == pytest.approx(share + math.log10(abs(d) * abs(a / w) / k0), abs=1e-6)
    m, c, q = a * w * math.copysign(1, d) / k0, 0.2, 1 - 0.01**0.5
    roots = [-2 * m + math.sqrt(4 * m * m + c)]
    if m < 0 and 4 * m * m >= c:
        roots.append(2 * abs(m) - math.sqrt(4 * m * m - c))
    assert expected.kernel_demand == pytest.approx(math.log10(q * abs(d) / (k0 * min(roots))), abs=2e-3)


def test_a_network_that_is_linear_in_its_parameters_is_foretold_exactly() -> None:
    net, x, y = linear_network()
    expected = gf.forecast(net, x, y, loss="mse", target_loss=0.5, options=LITTLE)
    rate = 0.002 * expected.stable_rate
    after, _, _ = linear_network()
    goal, loss, steps = nn.functional.one_hot(y, 2).double() - 0.5, 1.0, 0
    optimizer = torch.optim.SGD([p for p in after.parameters() if p.requires_grad], lr=rate)
    while loss > 0.5:
        optimizer.zero_grad()
        value = (after(x) - goal).square().sum(1).mean()
        value.backward()
        optimizer.step()
        loss, steps = float((after(x) - goal).square().sum(1).mean().detach()) / 0.5, steps + 1
    options = gf.LocateOptions(n_bootstrap=2)
    where = gf.locate(after, x, initial=net, options=options, progress=False)
    assert expected.loss_reached == pytest.approx(loss, rel=5e-3)
    assert expected.time == pytest.approx(steps * rate, rel=0.01)
    assert expected.richness == pytest.approx(where.richness, abs=3e-3)
    assert expected.kernel_demand == where.kernel_demand == -math.inf
    assert expected.regime == "lazy" if expected.richness < -0.5 else "features moved, kernel at rest"


def test_a_factor_of_centred_outputs_shifts_demand_by_its_logarithm() -> None:
    x, y = digits()
    net = mlp(64, (12,), 10, seed=0)
    one, ten = (
        gf.forecast(gf.at_richness(net, gamma=gamma), x, y, loss="mse", target_loss=0.3, options=LITTLE)
        for gamma in (1.0, 0.1)
    )
    for name, near in (("richness", 1e-4), ("kernel_demand", 4e-3)):
        before, after = (np.array(found.details["by_change"][name]) for found in (one, ten))
        assert before - after == pytest.approx(1.0, abs=near)
    assert ten.curvature == pytest.approx(100 * one.curvature, rel=1e-4)


def trained_and_forecasted(
    loss: str, optimizer: str, multiplier: float, lr: float
) -> tuple[gf.Forecast, gf.Location, gf.PlainTraining]:
    x, y = digits()
    net = gf.at_richness(mlp(64, (24,), 10, activation="tanh", seed=0), gamma=1 / multiplier)
    made: Any = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    expected = gf.forecast(
        net, x, y, loss=loss, target_loss=0.2, optimizer=made(net.parameters(), lr=lr), options=LITTLE
    )
    options = gf.PlainOptions(optimizer=optimizer, lr=lr, max_steps=3000, target_loss=0.2)
    run = gf.train_plainly(net, x, y, loss=loss, options=options)
    assert run.converged
    where = gf.locate(
        run.trained, x, y, initial=run.initial, optimizer=made(run.trained.parameters(), lr=lr), progress=False,
        options=gf.LocateOptions(loss=loss, n_bootstrap=2),
    )  # fmt: skip
    return expected, where, run


@pytest.mark.parametrize(
    ("loss", "optimizer", "multiplier", "lr"),
    [("mse", "sgd", 10.0, 0.0003), ("cross-entropy", "sgd", 3.0, 0.05), ("mse", "adam", 1.0, 0.003)],
)
def test_trainings_end_where_they_were_forecasted(loss: str, optimizer: str, multiplier: float, lr: float) -> None:
    expected, where, run = trained_and_forecasted(loss, optimizer, multiplier, lr)
    assert abs(expected.richness - where.richness) < 0.1
    assert abs(expected.kernel_demand - where.kernel_demand) < 0.3
    assert expected.low <= where.richness <= expected.high
    assert expected.rate_place == ("" if optimizer == "adam" else "flow")
    if where.richness < -0.6:
        assert expected.movement == pytest.approx(where.movement, abs=0.05)
        assert expected.excess == pytest.approx(where.excess, abs=0.05)
        assert expected.steps == pytest.approx(run.steps, rel=0.15)


def test_a_lazy_network_catapults_above_the_stable_rate_and_diverges_far_above() -> None:
    x, y = digits()
    net = gf.at_richness(mlp(64, (24,), 10, activation="tanh", seed=0), gamma=0.1)
    expected = gf.forecast(net, x, y, loss="mse", target_loss=0.2, options=LITTLE)
    worst, places = [], []
    for times in (0.9, 1.5, 3.0):
        lr = times * expected.stable_rate
        places.append(place_of_rate(lr, expected.stable_rate, expected.kernel_demand))
        options = gf.PlainOptions(optimizer="sgd", lr=lr, max_steps=300, target_loss=0.2)
        run = gf.train_plainly(net, x, y, loss="mse", options=options)
        worst.append(run.history["loss"].to_numpy().max() / run.unit if run.converged else math.inf)
    assert places == ["near the edge", "catapult", "divergence"]
    assert worst[0] <= 1
    assert 2 < worst[1] < math.inf
    assert worst[2] == math.inf


def test_a_number_of_steps_takes_the_place_of_a_target() -> None:
    x, y = digits()
    net = gf.at_richness(mlp(64, (24,), 10, seed=0), gamma=0.05)
    sgd = torch.optim.SGD(net.parameters(), lr=0.0002)
    expected = gf.forecast(net, x, y, loss="mse", optimizer=sgd, n_steps=50, options=LITTLE)
    run = gf.train_plainly(net, x, y, loss="mse", options=gf.PlainOptions(optimizer="sgd", lr=0.0002, max_steps=50))
    assert expected.steps == pytest.approx(50)
    assert math.isnan(expected.target_loss)
    assert expected.loss_reached == pytest.approx(run.train_loss, abs=0.02)
    assert run.train_loss < 0.9
    adam = torch.optim.Adam(net.parameters(), lr=1e-4)
    followed = gf.forecast(net, x, y, loss="mse", optimizer=adam, n_steps=20, options=LITTLE)
    run = gf.train_plainly(net, x, y, loss="mse", options=gf.PlainOptions(optimizer="adam", lr=1e-4, max_steps=20))
    assert followed.loss_reached == pytest.approx(run.train_loss, abs=0.05)


def test_a_read_out_of_zero_is_no_obstacle_and_is_flagged() -> None:
    x, y = digits()
    net = mlp(64, (16,), 10, seed=0)
    for p in net.get_submodule("head").parameters():
        nn.init.zeros_(p)
    expected = gf.forecast(net, x, y, loss="cross-entropy", target_loss=0.9, options=LITTLE)
    assert expected.richness == -math.inf
    assert expected.initial_loss == pytest.approx(1.0)
    assert any("read-out is small" in flag for flag in expected.flags)
    assert not any("read-out is small" in flag for flag in ordinary().flags)


@cache
def ordinary() -> gf.Forecast:
    x, y = digits()
    momentum = lambda net: torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)  # noqa: E731
    net = mlp(64, (16,), 10, seed=0)
    return gf.forecast(net, x, y, loss="cross-entropy", target_loss=0.05, optimizer=momentum(net), options=LITTLE)


def test_where_forecasts_are_known_to_fail_they_say_so() -> None:
    assert ordinary().richness > 0
    assert any("with momentum in the rich range" in flag for flag in ordinary().flags)
    x, y = digits()
    poor = gf.at_richness(mlp(64, (16,), 10, seed=0), gamma=60.0)
    expected = gf.forecast(poor, x, y, loss="mse", target_loss=0.2, options=LITTLE)
    assert expected.richness > 1.5
    assert expected.high - expected.low > 1
    assert expected.flags[0].startswith("R > 1.5")
    assert math.isnan(expected.movement)
    fast = torch.optim.Adam(poor.parameters(), lr=10.0)
    expected = gf.forecast(poor, x, y, loss="mse", target_loss=0.2, optimizer=fast, options=LITTLE)
    assert any("beyond the linear range" in flag for flag in expected.flags)


def test_richness_alone_is_that_of_the_whole_forecast() -> None:
    whole = ordinary()
    weighed, origin = whole.details["by_change"], whole.origin
    assert len(weighed["richness"]) == 2, "the place of the kernel weighs two changes"
    assert 0.01 < weighed["share_of_straight"] < 0.99
    alone = expected_richness(origin.model, origin.inputs, origin.targets, **origin.arguments)
    assert alone.richness == pytest.approx(whole.richness, abs=1e-6)


def test_few_steps_of_momentum_are_flagged() -> None:
    x, y = digits()
    net = mlp(64, (16,), 10, seed=0)
    flags = {
        rate: gf.forecast(
            net, x, y, loss="mse", target_loss=0.2, options=LITTLE,
            optimizer=torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9),
        ).flags
        for rate in (1e-4, 0.3)
    }  # fmt: skip
    few = {rate: any("momentum still builds up" in flag for flag in found) for rate, found in flags.items()}
    assert few == {1e-4: False, 0.3: True}


def test_learned_weights_parts_and_targets_out_of_reach_are_flagged() -> None:
    x, y = digits()
    net = mlp(64, (3,), 10, seed=0)
    some = gf.ForecastOptions(n_bootstrap=2, n_probes=10, params="head.*")
    expected = gf.forecast(net, x, y, loss="mse", target_loss=0.01, options=some)
    assert any(flag.startswith("The linearised network does not get to the target") for flag in expected.flags)
    assert any("10 of 20 inputs" in flag for flag in expected.flags)
    assert (expected.regime, set(expected.layers["regime"])) == ("frozen", {"frozen"})
    run = gf.train_plainly(mlp(64, (16,), 10, seed=0), x, y, options=gf.PlainOptions(lr=0.01, max_steps=60))
    tuned = gf.forecast(run.trained, x, y, loss="cross-entropy", target_loss=0.001, options=LITTLE)
    assert any("fine-tuning" in flag for flag in tuned.flags)


def normalised() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10))


def test_a_loader_and_a_network_without_batchnorm_statistics_are_as_tensors_are() -> None:
    """Forecast, advice and the location after training read batches; statistics are those of all samples at once."""
    x, y = (part[:10] for part in digits())
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    ask: dict[str, Any] = {"loss": "mse", "target_loss": 0.3, "options": LITTLE}
    read, held = gf.forecast(normalised(), loader, None, **ask), gf.forecast(normalised(), x, y, **ask)
    assert read.richness == pytest.approx(held.richness, abs=1e-6)
    assert any("statistics of one pass over the inputs" in flag for flag in read.flags)
    advised, known = (found.advise(-1.0, init_scale=False) for found in (read, held))
    assert advised.richness == pytest.approx(known.richness, abs=1e-6)
    end = normalised().train()
    for _ in range(20):
        with torch.no_grad():
            end(x)
            end[3].weight.add_(0.01)
    places = [
        gf.locate(end, given, initial=normalised(), options=gf.LocateOptions(n_bootstrap=2), progress=False)
        for given in (loader, x)
    ]
    assert places[0].richness == pytest.approx(places[1].richness, abs=1e-6)


def test_statistics_of_very_many_inputs_are_of_a_part() -> None:
    x = torch.randn(3000, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))
    found = gf.forecast(net, x, x[:, 0], loss="mse", options=gf.ForecastOptions(n_bootstrap=2, n_probes=20))
    assert any("statistics of one pass over 2048 inputs" in flag for flag in found.flags)


def test_it_is_written_and_read_again() -> None:
    again = gf.Forecast.from_json(ordinary().to_json())
    assert str(again) == str(ordinary())
    assert again.to_frame().equals(ordinary().to_frame())
    assert str(again).startswith("expected rich: R = +")
    assert list(again.to_frame()["layer"]) == ["", "fc1"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "loss": ({"loss": "hinge"}, "loss='hinge'"),
    "share": ({"target_loss": 1.5}, "target_loss=1.5 must lie between 0 and 1"),
    "steps": ({"n_steps": 10}, "says nothing without a rate"),
    "part": ({"n_steps": 0, "optimizer": {"*": 0.1}}, "n_steps=0 must be"),
    "none": ({"targets": None}, "targets is None"),
    "shape": ({"targets": torch.zeros(20, 3)}, "labels has shape"),
    "zero": ({"targets": torch.zeros(20, 10), "loss": "mse"}, "the loss at f = 0"),
    "rates": ({"optimizer": {"*": 0.0}}, "all rates are 0"),
    "options": ({"options": {}}, "options is a dict"),
    "model": ({"model": "net"}, "model is a str"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    x, y = digits()
    changed, message = BAD[case]
    given: dict[str, Any] = {"model": mlp(64, (8,), 10, seed=0), "inputs": x, "targets": y, "loss": "cross-entropy"}
    with pytest.raises(BadInput, match=message.replace("(", r"\(")):
        gf.forecast(**{**given, **changed})


def test_networks_with_nothing_to_train_or_to_learn_are_refused() -> None:
    x, y = digits()
    net = mlp(64, (8,), 10, seed=0)
    with pytest.raises(BadInput, match="is frozen"):
        gf.forecast(mlp(64, (8,), 10, seed=0).requires_grad_(False), x, y, loss="mse")
    with pytest.raises(BadInput, match="reached at the start"):
        gf.forecast(net, x, net(x).detach(), loss="mse")
    net.get_parameter("fc1.weight").data[0, 0] = math.nan
    with pytest.raises(BadInput):
        gf.forecast(net, x, y, loss="mse")
