"""The report on a run over time: planted events, scale invariance, what is flagged, intervals over seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from geomfeat.errors import BadInput
from geomfeat.regimes.grokking import TransitionReport, transitions
from geomfeat.regimes.grokking._transitions import LAZY, LAZY_THEN_RICH, NONE, RICH, over_seeds
from geomfeat.regimes.training import TrainingSeries
from geomfeat.regimes.training.series import KernelPath, log_spaced_steps

STEPS = np.array(log_spaced_steps(10_000, 40), dtype=float)


def planted(fit: float, test: float, turned: float, far: float, *, classes: bool = True) -> TrainingSeries:
    """A run whose train and test transitions and kernel turn are steep sigmoids of log time around given steps."""
    clock = np.log(np.maximum(STEPS, 1e-9))

    def rise(at: float) -> np.ndarray:
        return 1 / (1 + np.exp(np.clip(-12 * (clock - math.log(at)), -700, 700)))

    turn = far * rise(turned)
    arc = np.abs(np.diff(turn, prepend=turn[0]))
    path = KernelPath(*(tuple(v.tolist()) for v in (1 - np.cos(turn), turn - turn[0], arc, 0.01 + rise(turned))))
    accuracy = (tuple(rise(fit).tolist()), tuple(rise(test).tolist())) if classes else (None, None)
    losses = (tuple((1.001 - rise(fit)).tolist()), tuple((1.001 - rise(test)).tolist()))
    return TrainingSeries(tuple(STEPS.tolist()), losses[0], path, losses[1], *accuracy)


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize(
    ("fit", "test", "turned", "far", "verdict", "grokked"),
    [
        (50, 2000, 1000, 0.8, LAZY_THEN_RICH, True),
        (50, 60, 1000, 0.8, LAZY_THEN_RICH, False),
        (500, 600, 20, 0.8, RICH, False),
        (200, 2000, 40, 0.8, RICH, True),
        (50, 2000, 1000, 0.05, LAZY, True),
        (50, 1e9, 1000, 0.05, LAZY, False),
        (1e9, 1e9, 1000, 0.8, NONE, False),
    ],
)
def test_planted_events_are_found(
    fit: float, test: float, turned: float, far: float, verdict: str, grokked: bool, classes: bool
) -> None:
    found = transitions(planted(fit, test, turned, far, classes=classes))
    assert found.verdict == verdict
    assert found.grokked == grokked
    # A sigmoid of slope 12 in ln t crosses level p at ln t = ln at + ln(p / (1 - p)) / 12.
    for time, at, level in ((found.fit_time, fit, 0.99 if classes else 0.9), (found.test_time, test, 0.8)):
        if at < 1e9:
            assert time == pytest.approx(at * (level / (1 - level)) ** (1 / 12), rel=0.02)
        else:
            assert math.isnan(time)
    assert found.fastest_time == pytest.approx(turned, rel=0.06)
    assert found.fastest_velocity == pytest.approx(far * 12 / 4, rel=0.05)
    assert found.furthest_turn == pytest.approx(far, rel=1e-3)
    if verdict == LAZY_THEN_RICH:
        assert found.late_share == pytest.approx(1, abs=1e-3)
        assert found.silent is not None
        assert found.silent.lag > 0
    if verdict == RICH:
        assert found.late_share == pytest.approx(0, abs=1e-3)


@given(st.floats(0.01, 100), st.sampled_from([(50, 2000, 1000, 0.8), (500, 600, 20, 0.8), (50, 2000, 1000, 0.05)]))
@settings(max_examples=10, deadline=None)
def test_only_the_order_counts_not_the_unit_of_time(unit: float, events: tuple[float, float, float, float]) -> None:
    series = planted(*events)
    old, new = transitions(series), transitions(replace(series, steps=tuple(unit * s for s in series.steps)))
    assert (old.verdict, old.grokked) == (new.verdict, new.grokked)
    assert new.fit_time == pytest.approx(unit * old.fit_time)
    assert new.late_share == pytest.approx(old.late_share)


def test_a_kernel_that_only_shakes_at_the_end_was_fastest_before() -> None:
    series = planted(50, 2000, 300, 0.8)
    arc = tuple(0.5 if s > 3000 else a for s, a in zip(series.steps, series.kernel.arc, strict=True))
    assert transitions(replace(series, kernel=replace(series.kernel, arc=arc))).fastest_time == pytest.approx(300, 0.06)


def test_a_constant_series_is_flagged() -> None:
    zero = (0.0,) * 4
    found = transitions(TrainingSeries((0, 1, 2, 3), (1.0,) * 4, KernelPath(zero, zero, zero, (0.2,) * 4)))
    assert found.verdict == NONE
    assert any("nothing changed" in flag for flag in found.flags)
    assert math.isnan(found.late_share)
    assert math.isnan(found.fastest_time)


def test_a_diverged_series_is_judged_up_to_there() -> None:
    series = planted(50, 2000, 10, 0.8)
    cut = next(i for i, s in enumerate(STEPS) if s > 500)
    loss = (*series.train_loss[:cut], *[math.inf] * (len(STEPS) - cut))
    found = transitions(replace(series, train_loss=loss))
    assert found.verdict == RICH
    assert math.isnan(found.test_time)
    assert found.flags[0].startswith(f"not finite from step {STEPS[cut]:g}")
    nothing = replace(series, train_loss=(1.0, *[math.nan] * (len(STEPS) - 1)))
    with pytest.raises(BadInput, match="fewer than two"):
        transitions(nothing)


def test_late_learning_that_does_not_generalise_is_flagged() -> None:
    found = transitions(planted(50, 1e9, 1000, 0.8))
    assert found.verdict == LAZY_THEN_RICH
    assert "not learned" in found.flags[0]


def test_a_fit_before_the_records_begin_is_flagged() -> None:
    path = KernelPath((0, 0, 0), (0, 0.1, 0.5), (0, 0.1, 0.4), (0.1, 0.2, 0.3))
    found = transitions(TrainingSeries((0, 100, 200), (1.0, 0.01, 0.01), path))
    assert "record earlier steps" in found.flags[0]
    assert math.isnan(found.test_time)


def report(fit: float, test: float) -> TransitionReport:
    return TransitionReport(RICH, fit, test, test / fit, False, 1.0, 0.1, 0.2, 0.4, 0.5, None)


def test_intervals_over_seeds() -> None:
    found = over_seeds([report(10, 100), report(100, 10_000), report(1000, math.nan)])
    fit, delay = found["log10_fit_time"], found["log10_delay"]
    assert (fit.mean, fit.n, fit.missing) == (2.0, 3, 0)
    assert fit.high - fit.mean == pytest.approx(4.302653 / 3**0.5, rel=1e-6)  # t quantile .975 of 2 degrees, spread 1
    assert (delay.mean, delay.n, delay.missing) == (1.5, 2, 1)
    assert found["silent_log_ratio"].n == 0
    assert math.isnan(over_seeds([report(1, 2)])["late_share"].low)
    with pytest.raises(BadInput, match="empty"):
        over_seeds([])
