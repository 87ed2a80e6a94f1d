"""Optimizers, rates and schedules from fixed weights: numbers against the public calls, and the small run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import geomfeat as gf
from geomfeat.lab.optimizer_and_richness import runs
from geomfeat.lab.optimizer_and_richness.starts import ADAMW, HEAVY, LAZY, MUON, OPTIMIZERS, SGD, Start, start_at
from geomfeat.lab.optimizer_and_richness.summary import edge, effects_of, mean_of, slope
from geomfeat.lab.result import Findings
from geomfeat.numerics import WORKING
from geomfeat.regimes.training.objective import centred_one_hot
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("optimizer-and-richness")


@pytest.fixture(scope="module")
def start() -> Start:
    return start_at(LAZY, 5, samples=10, width=32, target=0.05, data_seed=2)


def test_all_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 19 + len(OPTIMIZERS) - 1


def test_descent_catapults_beyond_the_stable_rate_and_not_below(found: Findings) -> None:
    rows: Any = found.table[(found.table["part"] == "rates") & (found.table["optimizer"] == SGD)]
    lazy = rows[rows["start"] == LAZY]
    assert (lazy[lazy["share"] < 1]["highest"] == 1).all()
    assert (lazy[lazy["share"] >= 2]["phase"] == "catapult").all()
    assert (lazy[lazy["share"] < 1]["E"].abs() < 0.05).all()


@pytest.mark.parametrize("optimizer", [SGD, ADAMW])
def test_a_row_holds_what_locate_says(start: Start, optimizer: str) -> None:
    trained = runs.train(start, start.rule(optimizer, 0.3, max_steps=800))
    row = runs.row_of(start, optimizer, 0.3, trained)
    place = gf.locate(trained.trained, start.inputs, initial=start.model, optimizer=trained.rates, progress=False,
                      layers=list(runs.LAYERS), options=gf.LocateOptions(n_bootstrap=2))  # fmt: skip
    wanted = {"R": place.richness, "M": place.movement, "E": place.excess, "kappa": place.kernel_demand,
              "kernel_change": place.kernel_change, "kernel_excess": place.kernel_excess,
              "gap": place.linearisation_gap}  # fmt: skip
    assert {name: row[name] for name in wanted} == pytest.approx(wanted, abs=1e-9)
    assert [row["E1"], row["E2"]] == pytest.approx(place.layers["excess"].tolist(), abs=1e-9)
    plain = gf.locate(trained.trained, start.inputs, initial=start.model, progress=False, layers=list(runs.LAYERS),
                      options=gf.LocateOptions(n_bootstrap=2))  # fmt: skip
    assert row["R_plain"] == pytest.approx(plain.richness, abs=1e-9)
    assert (abs(row["R"] - row["R_plain"]) > 0.01) == (optimizer == ADAMW)
    last = runs.along(start, start.rule(optimizer, 0.3, max_steps=800), row, (0.5, 1.0))
    assert [one["time"] for one in last] == [0.5, 1.0, 1.0]
    assert [one["M"] for one in last[1:]] == pytest.approx([row["M"], row["M"]], abs=1e-9)
    assert last[0]["M"] < last[1]["M"]


def test_units_are_the_stable_rates_and_full_first_steps(start: Start) -> None:
    for name, momentum in ((SGD, 0.0), (HEAVY, 0.9)):
        optimizer = torch.optim.SGD(start.model.parameters(), lr=0.1, momentum=momentum)
        known = gf.forecast(start.model, start.inputs, start.labels, loss="mse", target_loss=0.05, optimizer=optimizer)
        assert start.units[name] == pytest.approx(known.stable_rate, rel=1e-6)
    goal = centred_one_hot(start.labels, 10, WORKING)
    weights = dict(start.model.named_parameters())

    def f(theta: Any) -> torch.Tensor:
        return torch.func.functional_call(start.model, theta, (start.inputs,))

    slopes = torch.func.grad(lambda theta: (f(theta) - goal).square().sum(1).mean())(weights)
    signs = {name: -slope.sign() for name, slope in slopes.items()}  # Adam's first step
    moved = torch.func.jvp(f, (weights,), (signs,))[1]
    assert start.units[ADAMW] * float(moved.detach().norm()) == pytest.approx(float(goal.norm()), rel=1e-3)
    assert (MUON in start.units) == hasattr(torch.optim, "Muon")


def test_schedules_differ_from_the_constant_rate_in_one_thing(start: Start) -> None:
    options = runs.schedules(start, SGD, 0.5, 100)
    constant = start.rule(SGD, 0.5, max_steps=400)
    expected: dict[str, dict[str, Any]] = {
        "warm-up": {"warmup_steps": 50}, "cosine": {"schedule": "cosine", "max_steps": 300},
        "batch n/5": {"batch_size": 2},
        **{f"decay {share:.0%}": {"weight_decay": share / (100 * constant.lr)} for share in runs.SHRINK},
    }  # fmt: skip
    for name, changed in expected.items():
        apart = {key: value for key, value in vars(options[name]).items() if value != getattr(constant, key)}
        assert apart == pytest.approx(changed) if name.startswith("decay") else apart == changed, name


def test_a_training_that_fails_is_a_row_without_a_place(start: Start) -> None:
    row = runs.at_rate(start, SGD, 50.0)
    assert row["phase"] in ("diverged", "did not learn")
    assert not row["reached"]
    assert "R" not in row


def test_what_is_left_by_the_flow_is_slow(start: Start) -> None:
    """Of an untrained network all of the targets is left; the flow takes the fast modes first."""
    untrained = runs.train(start, start.rule(SGD, 0.3, max_steps=0))
    trained = runs.train(start, start.rule(SGD, 0.3, max_steps=800))
    values, modes = np.linalg.eigh(gf.ntk(start.model, start.inputs, outputs="full").gram.numpy())
    part = np.square(modes.T @ centred_one_hot(start.labels, 10, WORKING).flatten().numpy())
    whole = runs.left_in_fast_modes(start, untrained)
    assert whole == pytest.approx(part[values > values[-1] / runs.FAST].sum() / part.sum())
    assert runs.left_in_fast_modes(start, trained) < 0.5 * whole


def test_a_mean_over_seeds_has_students_interval() -> None:
    values = [0.3, 0.5, 1.3]
    low, high = stats.t.interval(0.9, 2, np.mean(values), stats.sem(values))
    found = mean_of([*values, math.nan])
    assert [found.value, found.error, found.low, found.high] == pytest.approx(
        [np.mean(values), stats.sem(values), low, high]
    )
    assert math.isnan(mean_of([math.nan]).value)


def rates(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"share": [0.1, 1.0, 10.0, 100.0] * 2, "seed": [0] * 4 + [1] * 4, **columns})


def test_slopes_are_seed_by_seed_and_between_rates() -> None:
    rows = rates(E=[0.0, 0.0, 1.0, 2.0, 5.0, 5.0, 7.0, 9.0])
    assert slope(rows, "E", high=2.0).value == pytest.approx(0.0, abs=1e-12)
    beyond = slope(rows, "E", low=1.0)
    assert beyond.value == pytest.approx(1.5)
    assert beyond.error == pytest.approx(0.5)
    rows.loc[7, "E"] = math.nan
    assert slope(rows, "E", low=10.0).value == pytest.approx(1.0), "one seed has two rates"


def test_an_edge_is_where_a_number_leaves_its_value_at_the_slowest_rate_up_or_down() -> None:
    rows = rates(E=[1.0, 1.0, 1.2, 0.0, 3.0, 2.95, 2.85, 9.0])
    # Up by .1 half-way between 1 and 10; down by .1 half-way too.
    assert edge(rows, "E").value == pytest.approx(0.5)
    assert edge(rows, "E").error == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(edge(rows, "E", by=50.0).value)


def test_effects_are_paired_by_seed() -> None:
    """Seeds that differ by much, and by what a schedule does to each of them by little."""
    keys = {"start": LAZY, "optimizer": SGD, "share": 0.5}
    constant = pd.DataFrame([{**keys, "seed": s, "R": s, "M": 10.0 * s, "E": 9.0 * s, "kernel_excess": 0.0}
                             for s in range(3)])  # fmt: skip
    schedules = constant.assign(schedule="warm-up", E=constant["E"] + [0.1, 0.2, 0.3])
    lost = constant.assign(schedule="decay", E=[1.0, math.nan, math.nan])
    effects = effects_of(pd.concat([schedules, lost]), constant).set_index("schedule")
    assert effects.loc["warm-up", "E"] == pytest.approx(0.2)
    assert effects.loc["warm-up", "E_error"] == pytest.approx(0.1 / math.sqrt(3))
    assert effects["n"].to_dict() == {"warm-up": 3, "decay": 1}
