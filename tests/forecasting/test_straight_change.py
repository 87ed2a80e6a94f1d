"""The change that fits all samples alike: known answers, its share, and a training that got where it leads."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch.nn import functional

import geomfeat as gf
from geomfeat.forecasting import Forecast
from geomfeat.forecasting.callable_loss import callable_loss
from geomfeat.forecasting.output_loss import output_loss
from geomfeat.forecasting.straight_change import HALF_WAY, share_of_straight, straight_change
from geomfeat.models.mlp import mlp
from geomfeat.models.transformer import transformer
from geomfeat.numerics import stream

CLASSES = torch.tensor([0, 1, 2, 2, 1])


def zeros(n: int = 5, c: int = 3) -> torch.Tensor:
    return torch.zeros(n, c, dtype=torch.float64)


def test_from_outputs_zero_all_samples_have_the_same_margin_and_the_target_as_loss() -> None:
    loss = output_loss("cross-entropy", CLASSES, 3)
    change = straight_change(loss, zeros(), 0.1)
    assert change is not None
    each = functional.cross_entropy(change, CLASSES, reduction="none")
    torch.testing.assert_close(each, torch.full_like(each, 0.1 * math.log(3)), rtol=1e-9, atol=0)
    # Of C classes a margin m leaves log(1 + (C - 1) exp(-m)).
    margin = math.log(2 / math.expm1(0.1 * math.log(3)))
    expected = margin * (functional.one_hot(CLASSES, 3).double() - 1 / 3)
    torch.testing.assert_close(change, expected, rtol=1e-6, atol=0)


def test_of_the_mean_square_it_is_one_share_of_what_is_to_be_learned() -> None:
    start = torch.randn(5, 3, generator=stream(0, "straight"), dtype=torch.float64)
    loss = output_loss("mse", CLASSES, 3)
    change = straight_change(loss, start, 0.2)
    assert change is not None
    assert loss.relative(start + change) == pytest.approx(0.2, rel=1e-9)
    shares = (change / (loss.targets - start)).flatten()
    torch.testing.assert_close(shares, shares[0].expand(15), rtol=1e-9, atol=0)
    assert 0 < shares[0] < 1


def test_a_loss_of_ones_own_has_the_same_change() -> None:
    start = torch.randn(5, 3, generator=stream(1, "straight"), dtype=torch.float64)
    named, own = output_loss("cross-entropy", CLASSES, 3), callable_loss(functional.cross_entropy, CLASSES, 3)
    for relative in (0.5, 0.05):
        one, other = (straight_change(loss, start, relative) for loss in (named, own))
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_none_where_the_loss_is_not_to_be_had_on_the_way() -> None:
    assert straight_change(output_loss("mse", CLASSES, 3), zeros(), 1.0) is None
    bounded = callable_loss(lambda f, y: 2 + functional.cross_entropy(f.tanh(), y), CLASSES, 3)
    assert straight_change(bounded, zeros(), 0.1) is None


def test_the_share_grows_with_kernel_demand_from_none_to_all() -> None:
    shares = [share_of_straight(kappa) for kappa in (-math.inf, -3.0, HALF_WAY, 5.0)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[1] < 1e-3
    assert shares[2] == 0.5
    assert shares[3] > 0.999


@cache
def trained(multiplier: float) -> tuple[Forecast, gf.Location]:
    """A small transformer on digits: what was forecasted, and where its training got to."""
    data = gf.load_data("digits", split="train", n=24)
    net = gf.at_richness(transformer(seed=0, width=8, depth=1, heads=2, outputs=10), gamma=1 / multiplier)
    ask: dict[str, Any] = {"loss": "cross-entropy", "target_loss": 0.2}
    expected = gf.forecast(net, data.inputs, data.labels, options=gf.ForecastOptions(n_bootstrap=2), **ask)
    # With this momentum it gets to the same place within .003 decades, in 2.5 times fewer steps.
    options = gf.PlainOptions(
        optimizer="sgd", momentum=0.6, lr=expected.proposed_rate, max_steps=3000, target_loss=0.2
    )  # fmt: skip
    found = gf.train_plainly(net, data.inputs, data.labels, loss="cross-entropy", options=options)
    assert found.converged
    return expected, gf.locate(
        found.trained, data.inputs, data.labels, initial=found.initial, progress=False,
        options=gf.LocateOptions(loss="cross-entropy", n_bootstrap=2),
    )  # fmt: skip


def test_two_changes_that_demand_the_same_are_one() -> None:
    """A perceptron on digits: the changes differ by some hundredths of a decade, and only the linear one counts."""
    data = gf.load_data("digits", split="train", n=40)
    net, options = mlp(64, (64,), 10, seed=0), gf.ForecastOptions(n_bootstrap=2)
    found = gf.forecast(net, data.inputs, data.labels, loss="cross-entropy", target_loss=0.1, options=options)
    of = found.details["by_change"]
    assert (len(of["richness"]), of["share_of_straight"]) == (1, 0.0)
    assert found.richness == of["richness"][0]
    assert found.kernel_demand == of["kernel_demand"][0]


@pytest.mark.slow
def test_advice_is_exact_between_two_changes() -> None:
    """The share of the second falls with the multiplier, so that R falls by more than its logarithm."""
    expected, _ = trained(1.0)
    advice = expected.advise(0.0, init_scale=False)
    assert advice.richness == pytest.approx(0.0, abs=0.01)
    assert math.log10(advice.multiplier) < expected.richness - 0.02


@pytest.mark.slow
def test_a_transformer_far_from_its_linear_range_gets_to_where_it_was_forecasted() -> None:
    expected, where = trained(1.0)
    linear, straight = expected.details["by_change"]["richness"]
    assert straight - linear > 0.3
    assert expected.richness == pytest.approx(where.richness, abs=0.05)
    assert where.richness - linear > 0.2
    assert expected.kernel_demand == pytest.approx(where.kernel_demand, abs=0.25)
