"""Logarithmic axes are labelled at least twice, and never crowded."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given, settings, strategies as st

from geomfeat.charts import Curve, Plot, figure_of
from geomfeat.charts.log_ticks import MARGIN, log_ticks, tick_text

POSITIVE = st.floats(1e-12, 1e12)


@settings(deadline=None)
@given(POSITIVE, st.floats(1.001, 1e9))
def test_there_are_two_to_eleven_ticks_within_reach_of_the_values(low, ratio):
    high = low * ratio
    ticks = log_ticks([high, None, low, math.nan, -1.0, 0.0])
    assert 2 <= len(ticks) <= 11
    assert list(ticks) == sorted(set(ticks))
    pad = 1.0001 * MARGIN * math.log10(ratio)
    assert math.log10(low) - pad <= math.log10(ticks[0])
    assert math.log10(ticks[-1]) <= math.log10(high) + pad


@settings(deadline=None)
@given(st.integers(-12, 12), st.integers(1, 20))
def test_decades_are_labelled_evenly_where_two_are_in_reach(first, n):
    powers = [math.log10(tick) for tick in log_ticks([10.0**first, 10.0 ** (first + n)])]
    steps = {round(b - a) for a, b in pairwise(powers)}
    assert len(powers) <= 7
    assert len(steps) == 1
    assert all(abs(p - round(p)) < 1e-9 for p in powers)


@settings(deadline=None)
@given(POSITIVE, st.floats(1.01, 1e9))
def test_labels_of_one_axis_differ(low, ratio):
    ticks = log_ticks([low, low * ratio])
    assert len({tick_text(tick) for tick in ticks}) == len(ticks)


def test_fewer_than_two_values_leave_the_axis_alone():
    assert log_ticks([]) == log_ticks([3.0, 3.0]) == log_ticks([-1.0, 0.0, 5.0]) == ()


def test_matplotlib_draws_the_same_labels():
    curve = Curve("n^(1/2)", [0.6, 4.0], [1e-6, 1e-3])
    axes = figure_of(Plot("", "n^-0.5", "y", [curve], log_x=True, log_y=True)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "3"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "$10^{-6}$", "$10^{-5}$", "$10^{-4}$", "$10^{-3}$"
    ]  # fmt: skip
    assert axes.get_xlabel() == r"n$^{\mathrm{−0.5}}$"


def test_rows_of_names_stand_from_the_top_with_errors_along_x():
    plot = Plot("", "slope", "", [Curve("", [1.0, 2.0], [0.0, 1.0], [0.1, 0.2], kind="scatter")], y_ticks=("a", "b"))
    axes = figure_of(plot).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_ylim() == (1.5, -0.5)
    (bars,) = axes.collections
    ends = [segment[:, 0].tolist() for segment in bars.get_segments()]  # type: ignore[attr-defined]
    assert ends == [[0.9, 1.1], [1.8, 2.2]]
