"""Slopes with one offset a seed: planted slopes, offsets and noise are found."""

from __future__ import annotations

import numpy as np
import pytest

from geomfeat.comparison.validation.slopes import slope_and_scatter


def test_offsets_of_seeds_are_no_slope() -> None:
    x, seeds = np.tile(np.linspace(-2, 2, 5), 2), np.repeat([0, 1], 5)
    slope, error, scatter = slope_and_scatter(x + 3 * seeds, 0.5 * (x + 3 * seeds) - 7 * seeds, seeds, known=0.5)
    assert slope == pytest.approx(0.5)
    assert error == pytest.approx(0, abs=1e-9)
    assert scatter == pytest.approx(0, abs=1e-9)


def test_scatter_is_that_of_the_noise_and_error_shrinks_with_the_number() -> None:
    draw = np.random.default_rng(0)
    errors = []
    for count in (100, 10_000):
        x, seeds = draw.normal(size=count), draw.integers(0, 2, count)
        slope, error, scatter = slope_and_scatter(x, x + 0.1 * draw.normal(size=count), seeds)
        assert scatter == pytest.approx(0.1, rel=0.2)
        assert abs(slope - 1) < 4 * error
        errors.append(error)
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.3)


def test_scatter_is_about_the_known_slope() -> None:
    x = np.linspace(-1, 1, 21)
    slope, error, scatter = slope_and_scatter(x, 2 * x, np.zeros(21))
    assert slope == pytest.approx(2.0)
    assert error == pytest.approx(0, abs=1e-9)
    assert scatter == pytest.approx(np.std(x, ddof=1))
