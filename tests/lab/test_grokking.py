"""Grokking's knobs at the small size: predictions in limits that are known, and what alignment and samples do."""

from __future__ import annotations

import math

import pytest

from geomfeat.lab._grokking_knobs import (
    Knobs,
    _disorder,
    _middle,
    alignment_and_samples,
    predicted_alignment,
    predicted_first_loss,
)


@pytest.fixture(scope="module")
def knobs() -> Knobs:
    return alignment_and_samples("small", 1)


def of(knobs: Knobs, knob: str, name: str, **where: float) -> list[float]:
    """A column of the runs of one knob at given values."""
    rows = [r for r in knobs.rows if r["knob"] == knob and all(r[k] == v for k, v in where.items())]
    return [float(str(row[name])) for row in rows]


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


def test_all_checks_hold(knobs: Knobs) -> None:
    assert [check for check in knobs.checks if not check.ok] == []
    assert len(knobs.checks) == 7


def test_at_one_product_of_scale_and_alignment_time_goes_as_its_square_and_the_delay_stays(knobs: Knobs) -> None:
    small, large = (of(knobs, "alignment at αε = 1/4", "fit", eps=eps) for eps in (0.1, 0.5))
    for a, b in zip(small, large, strict=True):
        assert a / b == pytest.approx(25, rel=0.15)
    delays = [of(knobs, "alignment at αε = 1/4", "delay", eps=eps) for eps in (0.1, 0.5)]
    for a, b in zip(*delays, strict=True):
        assert a == pytest.approx(b, rel=0.15)


def test_at_one_scale_the_gap_falls_and_the_delay_as_a_ratio_grows(knobs: Knobs) -> None:
    small, large = ({n: of(knobs, "alignment at α = 1", n, eps=eps) for n in ("gap", "delay")} for eps in (0.05, 0.5))
    assert max(large["gap"]) < min(small["gap"])
    assert all(b > 1.5 * a for a, b in zip(small["delay"], large["delay"], strict=True))


def test_the_linearised_network_needs_more_samples(knobs: Knobs) -> None:
    for samples in (150, 300):
        lazy, rich = (of(knobs, k, "last test loss", samples=samples) for k in ("samples, linearised", "samples"))
        assert min(lazy) > 3 * max(rich)
