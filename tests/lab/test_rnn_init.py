"""Recurrent networks by gain, rank and scale: rows against the public calls, sums by hand, and the small run."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

import geomfeat as gf
from geomfeat.data.tasks import delayed_match
from geomfeat.lab.result import Findings
from geomfeat.lab.rnn_init.runs import EACH, STEPS, gain_of, trained_and_located
from geomfeat.lab.rnn_init.summary import errors, falls, lazy_in_spite_of_gap, means, slope_on_scale
from geomfeat.models.recurrent import rate_rnn
from geomfeat.numerics import WORKING
from geomfeat.regimes.training import train_at_gamma
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("rnn-init")


def test_all_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 8
    assert set(found.table["part"]) == {"grid", "norms", "gains", "chaotic"}


def test_low_rank_is_richer_in_every_seed(found: Findings) -> None:
    rows: Any = found.table[found.table["part"] == "norms"]
    for column in ("R", "kappa"):
        by_rank = rows.pivot_table(index=["norm", "seed"], columns="rank", values=column)
        assert (by_rank[1] > by_rank[24]).all()


def test_a_row_holds_what_locate_says() -> None:
    row = trained_and_located(1.2, 2, 3.0, 7, norm=EACH, units=12, trials=8, target=0.4)
    task = delayed_match(8, **STEPS, seed=7)
    start = rate_rnn(3, 12, 1, gain=1.2 * math.sqrt(2 / 12), rank=2, seed=7).to(WORKING)
    goal = 2.0 * task.choices - 1
    end = train_at_gamma(start, task.inputs, goal, gamma=1 / 3, target_loss=0.4, max_steps=4000)
    place = gf.locate(end.model, task.inputs, initial=start, progress=False, options=gf.LocateOptions(n_bootstrap=2))
    wanted = {"loss": end.train_loss, "R": place.richness, "M": place.movement, "kappa": place.kernel_demand,
              "kernel_change": place.kernel_change, "gap": place.linearisation_gap}  # fmt: skip
    assert {name: row[name] for name in wanted} == pytest.approx(wanted, rel=1e-9)
    assert row["regime"] == place.regime
    assert (row["rank"], row["scale"], row["reached"]) == (2, 3.0, True)


def test_both_norms_agree_at_full_rank_and_one_keeps_the_mean_square() -> None:
    assert gain_of(1.5, EACH, None, 30) == gain_of(1.5, EACH, 30, 30) == 1.5
    assert gain_of(1.5, EACH, 3, 48) == pytest.approx(1.5 / 4)


def test_sums_over_trainings_are_those_by_hand() -> None:
    rows = pd.DataFrame({
        "gain": [1.0, 1.0, 1.0, 1.0], "rank": [1, 1, 4, 4], "seed": [0, 0, 0, 1], "scale": [1.0, 10.0, 1.0, 1.0],
        "R": [2.0, 0.8, 0.5, 0.7], "gap": [0.9, 0.1, 0.6, 0.4], "regime": ["rich", "lazy", "lazy", "lazy"],
        "reached": [True, True, True, True],
    })  # fmt: skip
    assert means(rows, "rank", "R").tolist() == pytest.approx([1.4, 0.6])
    assert errors(rows, "rank", "R").loc[4] == pytest.approx(0.1)
    assert slope_on_scale(rows, "R") == pytest.approx(1.2)
    assert falls([2.0, 1.5, 1.6]) == pytest.approx(-0.1)
    assert lazy_in_spite_of_gap(rows) == 1
    assert lazy_in_spite_of_gap(rows.assign(reached=False)) == 0
