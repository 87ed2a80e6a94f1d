"""Grokking's knobs at the small size: predictions in limits that are known, and what alignment and samples do."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from geomfeat.lab._grokking_knobs import _disorder, _middle, predicted_alignment, predicted_first_loss
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return small_run("grokking").table


def of(runs: pd.DataFrame, knob: str, name: str, **where: float) -> list[float]:
    """A column of the runs of one knob at given values."""
    rows = runs[runs["knob"] == knob]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 2  # seeds
    return [float(value) for value in rows[name]]


def test_predictions_in_their_limits() -> None:
    assert predicted_alignment(30, 10**9, 1e-2) == pytest.approx(2e-4 / 30**1.5, rel=1e-3)
    assert predicted_alignment(30, 10**9, 1e3) == pytest.approx(465**-0.5, rel=1e-3)
    assert predicted_alignment(30, 100, 2.0) < predicted_alignment(30, 10**9, 2.0)
    assert predicted_first_loss(30, 10**6) == pytest.approx(1, abs=1e-4)


def test_events_that_did_not_happen_count_as_late() -> None:
    runs = [{"delay": 2.0}, {"delay": math.nan}, {"delay": 3.0}]
    assert _middle(runs, "delay") == 3.0
    assert math.isnan(_middle(runs[1:2], "delay"))
    assert _disorder({1.0: [{"gap": 5.0}], 2.0: [{"gap": 6.0}], 3.0: [{"gap": 1.0}]}, "gap") == 1


def test_at_one_product_of_scale_and_alignment_time_goes_as_its_square_and_the_delay_stays(runs: pd.DataFrame) -> None:
    small, large = (of(runs, "alignment at αε = 1/4", "fit", eps=eps) for eps in (0.1, 0.5))
    for a, b in zip(small, large, strict=True):
        assert a / b == pytest.approx(25, rel=0.15)
    delays = [of(runs, "alignment at αε = 1/4", "delay", eps=eps) for eps in (0.1, 0.5)]
    for a, b in zip(*delays, strict=True):
        assert a == pytest.approx(b, rel=0.15)


def test_at_one_scale_the_gap_falls_and_the_delay_as_a_ratio_grows(runs: pd.DataFrame) -> None:
    small, large = ({n: of(runs, "alignment at α = 1", n, eps=eps) for n in ("gap", "delay")} for eps in (0.05, 0.5))
    assert max(large["gap"]) < min(small["gap"])
    assert all(b > 1.5 * a for a, b in zip(small["delay"], large["delay"], strict=True))


def test_the_linearised_network_needs_more_samples(runs: pd.DataFrame) -> None:
    for samples in (150, 300):
        lazy, rich = (of(runs, k, "last test loss", samples=samples) for k in ("samples, linearised", "samples"))
        assert min(lazy) > 3 * max(rich)
