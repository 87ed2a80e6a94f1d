"""The rates that a training saves are those at which its raw weights moved, whatever it ran on."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.location import LocateOptions, locate
from geomfeat.regimes.training import Trained, TrainOptions, train_at_gamma
from tests.geometry.clouds import normal

X, Y = normal(30, 4, seed=5), normal(30, 2, seed=6)
MULTIPLIERS = {"*": 1.0, "0": 4.0, "4": 0.25}
FAST: dict[str, Any] = {"progress": False, "options": LocateOptions(n_bootstrap=2, share_left=0.01, n_probes=30)}


def net(seed: int = 0, width: int = 24) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
    ).double()  # fmt: skip


def first_step(gamma: float, lr: float | None = 0.01, **options: Any) -> tuple[Trained, dict[str, Tensor]]:
    """A training of one step, and the gradient of its loss by the raw weights at the start."""
    start = net()
    trained = train_at_gamma(
        start, X, Y, gamma=gamma, lr=lr, max_steps=1, options=TrainOptions(momentum=0.0, back_off=False, **options)
    )
    f = (start(X) - start(X).detach()) / gamma
    ((f - Y).square().sum() / Y.square().sum()).backward()
    return trained, {name: p.grad for name, p in start.named_parameters() if p.grad is not None}


def steps(trained: Trained) -> dict[str, Tensor]:
    return {name: (p - dict(net().named_parameters())[name]).detach() for name, p in trained.model.named_parameters()}


@pytest.mark.parametrize("gamma", [0.1, 3.0])
@pytest.mark.parametrize("multipliers", [None, MULTIPLIERS])
def test_descent_moves_raw_weights_at_the_rates(gamma: float, multipliers: dict[str, float] | None) -> None:
    trained, gradient = first_step(gamma, lr_multipliers=multipliers)
    assert trained.rates is not None
    assert (trained.rates.sizes, trained.rates.adaptive) == ({}, frozenset())
    for name, step in steps(trained).items():
        torch.testing.assert_close(step, -trained.rates.rates[name] * gradient[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.1, 3.0])
@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("multipliers", [None, MULTIPLIERS])
def test_adam_moves_raw_weights_at_the_rates_over_the_sizes(
    gamma: float, foreign: bool, multipliers: dict[str, float] | None
) -> None:
    made = (lambda groups: torch.optim.Adam(groups, lr=0.01, eps=1e-300)) if foreign else "adam"
    trained, gradient = first_step(gamma, None if foreign else 0.01, optimizer=made, lr_multipliers=multipliers)
    rates = trained.rates
    assert rates is not None
    assert rates.adaptive == set(rates.rates) == set(rates.sizes) == set(gradient)
    # A size of another unit, the same for all tensors, would be a change of time alone.
    for name, step in steps(trained).items():
        torch.testing.assert_close(rates.sizes[name].double(), gradient[name].abs(), rtol=1e-5, atol=1e-12)
        moved = -rates.rates[name] * gradient[name] / rates.sizes[name]
        torch.testing.assert_close(step, moved, rtol=1e-4, atol=1e-12)


def test_rules_of_a_torch_optimizer_may_differ_between_groups() -> None:
    trained, gradient = first_step(0.5, None, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.01))
    assert trained.rates is not None
    assert trained.rates.rates == pytest.approx(dict.fromkeys(gradient, 0.01 * 0.5**2))


def test_frozen_parameters_have_no_rate_and_training_of_no_step_no_rates() -> None:
    trained = train_at_gamma(net(), X, Y, gamma=1.0, max_steps=3, options=TrainOptions(lr_multipliers={"0": 0.0}))
    assert trained.rates is not None
    assert set(trained.rates.rates) == {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert train_at_gamma(net(), X, Y, gamma=1.0, max_steps=0).rates is None


def test_what_became_infinite_says_nothing_about_sizes() -> None:
    trained = train_at_gamma(
        net(), X, Y, gamma=1.0, lr=1e200, max_steps=4, options=TrainOptions(optimizer="adam", back_off=False)
    )
    assert trained.diverged
    assert trained.rates is None or trained.rates.sizes == {}


def test_plain_descent_is_where_it_was() -> None:
    start = net()
    trained = train_at_gamma(start, X, Y, gamma=1.0, target_loss=0.3)
    known, plain = (locate(trained.model, X, initial=start, optimizer=given, **FAST) for given in (trained.rates, None))
    assert (known.metric, plain.metric) == ("given rates", "plain: not known")
    assert (known.richness, known.low, known.high, known.kernel_demand) == (
        plain.richness, plain.low, plain.high, plain.kernel_demand
    )  # fmt: skip


def test_a_checkpoint_carries_the_rates_of_its_step() -> None:
    start = net()
    options = TrainOptions(optimizer="adam", snapshot_steps=(0, 5, 20), lr_multipliers=MULTIPLIERS)
    trained = train_at_gamma(start, X, Y, gamma=1.0, lr=1e-3, max_steps=20, options=options)
    assert trained.at(0).optimizer is None
    last = trained.at(20)
    assert isinstance(last.optimizer, gf.OptimizerRates)
    assert trained.rates is not None
    torch.testing.assert_close(dict(last.optimizer.sizes), dict(trained.rates.sizes))
    assert not torch.equal(trained.at(5).optimizer.sizes["0.weight"], trained.rates.sizes["0.weight"])
    by_hand = locate(trained.model, X, initial=start, optimizer=trained.rates, **FAST)
    found = locate(last, X, initial=start, **FAST)
    assert (found.metric, found.richness) == ("Adam state", by_hand.richness)
    study = gf.analyze(
        last, X, Y, initial=start, measures="stable_rank", location=FAST["options"], progress=False,
        options=gf.StudyOptions(umap=False),
    )  # fmt: skip
    assert study.location is not None
    assert study.location.richness == pytest.approx(by_hand.richness, rel=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_in_the_lazy_range_adam_moves_features_as_its_own_metric_demands(seed: int) -> None:
    """M = R to first order in the coordinates of the training itself: .06 decades with the state, .35 plain."""
    start = net(seed, width=48)
    options = TrainOptions(optimizer="adam", lr_multipliers={"*": 1.0, "0": 3.0, "4": 0.1})
    trained = train_at_gamma(start, X, Y, gamma=0.01, target_loss=0.3, max_steps=4000, seed=seed, options=options)
    assert trained.converged
    errors = {}
    for given in (trained.rates, None):
        layers = locate(
            trained.model, X, initial=start, optimizer=given, progress=False,
            options=LocateOptions(n_bootstrap=2, n_probes=30),
        ).layers  # fmt: skip
        richness, movement = (np.asarray(layers[name], float) for name in ("richness", "movement"))
        assert richness.max() < -0.5
        errors[given is not None] = float(np.sqrt(np.mean((movement - richness) ** 2)))
    assert errors[True] < 0.15
    assert errors[True] < 0.5 * errors[False]
