"""Feature-learning strength at the small size: the side-by-side descent, and numbers beyond the experiment's checks."""

from __future__ import annotations

import math

import pytest
import torch

from geomfeat.lab.feature_learning_strength import _ensemble, _reached, side_by_side
from geomfeat.lab.result import Findings
from geomfeat.models import build
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("feature-learning-strength")


def rows(found: Findings, part: str) -> list[dict]:
    return [row for row in found.table.to_dict("records") if row["part"] == part]


def test_side_by_side_is_one_training_after_the_other() -> None:
    draw = stream(0, "x")
    x, y = (torch.randn(12, n, generator=draw, dtype=WORKING) for n in (5, 2))
    nets = [build("linear", inputs=5, hidden=(6,), outputs=2, seed=s).to(WORKING) for s in range(2)]
    gammas, rates = [0.1, 3.0], [2e-4, 0.05]
    found = side_by_side(nets, x, y, gammas, rates, 20)
    assert found.shape == (21, 2, 2)
    unit = float(y.square().sum(1).mean())
    for i, (gamma, rate) in enumerate(zip(gammas, rates, strict=True)):
        for s, net in enumerate(nets):
            alone = train_at_gamma(net, x, y, gamma=gamma, lr=rate / gamma**2 * unit, max_steps=20,
                                   options=TrainOptions(momentum=0.0, back_off=False))  # fmt: skip
            assert float(found[-1, i, s]) == pytest.approx(alone.train_loss, rel=1e-9)
    assert torch.equal(found[0], torch.ones(2, 2, dtype=WORKING))


def test_a_crossing_is_interpolated() -> None:
    assert _reached(torch.tensor([1.0, 0.8, 0.4]), 0.6) == pytest.approx(1.5)
    assert math.isnan(_reached(torch.tensor([1.0, 0.8]), 0.6))


def test_mean_loss_is_the_ensembles_and_the_variance() -> None:
    outputs, wanted = torch.randn(3, 7, 2, generator=stream(1, "f"), dtype=WORKING), torch.ones(7, 2, dtype=WORKING)
    of = _ensemble(outputs, wanted)
    assert of["single"] == pytest.approx(of["ensemble"] + of["spread"], rel=1e-12)
    assert of["variance"] == pytest.approx(float(outputs.var(0).sum(1).mean()) / 2, rel=1e-12)


def test_all_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 11


def test_the_silent_period_is_absent_in_lazy_networks_and_grows_with_depth(found: Findings) -> None:
    silent = {(r["layers"], r["gamma"], r["network"]): r["silent steps"] for r in rows(found, "silent period")}
    for network in (0, 1):
        assert silent[3, 1e4, network] > 5 * silent[2, 1e4, network] > 50 * silent[2, 1e-4, network]


def test_an_ensemble_gains_more_where_networks_are_lazy_yet_one_rich_network_is_better(found: Findings) -> None:
    over_gamma = [r for r in rows(found, "ensemble") if r["over"] == "gamma"]
    lazy, rich = over_gamma[0], over_gamma[-1]
    assert lazy["gain"] > 3 * rich["gain"] > 0
    assert rich["single"] < lazy["ensemble"]
