"""Exponents: exact powers, intervals that cover as often as they say, missing values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.errors import BadInput
from geomfeat.numerics import stream
from geomfeat.statistics.power_law import power_law, slopes

WIDTHS = torch.tensor([16.0, 32.0, 64.0, 128.0], dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(st.floats(-2, 2), st.floats(1e-3, 1e3))
def test_exact_powers_are_found_exactly(power: float, factor: float) -> None:
    law = power_law(WIDTHS, factor * (WIDTHS**power).repeat(3, 1))
    assert law.exponent == pytest.approx(power, abs=1e-9)
    assert law.high - law.low < 1e-9
    assert law.n_seeds == 3


def test_slopes_are_numpys_least_squares_lines_with_and_without_gaps() -> None:
    values = torch.rand(5, 4, generator=stream(0, "power law"), dtype=torch.float64) + 0.1
    values[1, 2], values[2, 0], values[3, 3] = math.nan, 0.0, math.inf
    found = slopes(WIDTHS, values)
    for row, slope in zip(values, found, strict=True):
        kept = torch.isfinite(row) & (row > 0)
        want = np.polyfit(np.log(WIDTHS[kept].numpy()), np.log(row[kept].numpy()), 1)[0]
        assert float(slope) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("seeds", [1, 2, 4, 20])
def test_intervals_cover_as_often_as_they_say(seeds: int) -> None:
    # Noise is larger at small widths, as in networks; a single repetition's interval assumes that it is equal.
    noise = torch.ones(4, dtype=torch.float64) if seeds == 1 else torch.tensor([0.4, 0.2, 0.1, 0.05]).double()
    generator, trials, hits = stream(seeds, "coverage"), 2000, 0
    for _ in range(trials):
        logs = 0.3 * WIDTHS.log() + noise * torch.randn(seeds, 4, generator=generator, dtype=torch.float64)
        law = power_law(WIDTHS, logs.exp())
        hits += law.low <= 0.3 <= law.high
    # Four standard errors of a share of 95 % in 2000 trials.
    assert abs(hits / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_repetitions_with_fewer_than_three_widths_are_left_out() -> None:
    values = torch.stack([WIDTHS**0.5, WIDTHS**0.5, WIDTHS])
    values[2, :2] = math.nan
    law = power_law(WIDTHS, values)
    assert (law.exponent, law.n_seeds) == (pytest.approx(0.5), 2)
    nothing = power_law(WIDTHS, torch.full((2, 4), math.nan))
    assert math.isnan(nothing.exponent)
    assert nothing.n_seeds == 0


def test_two_widths_are_refused() -> None:
    with pytest.raises(BadInput, match="2 widths"):
        power_law(WIDTHS[:2], torch.ones(3, 2))
