"""Change points: exact against every cut, found where planted, and rarely where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geomfeat.errors import BadInput
from geomfeat.statistics.changepoints import change_points, noise_of, segment_costs
from tests.reference.relate import best_segments


@pytest.mark.parametrize("seed", range(6))
def test_the_cut_is_the_best_of_all_cuts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = 12, 1 + seed % 2
    x = np.sort(rng.random(n)).cumsum()
    y = rng.normal(size=(n, k)).cumsum(0) * 2
    found = change_points(y, x, noise=1.0)
    assert found == best_segments(y, x, (2 * k + 1) * math.log(n * k), 3)[1]


def test_costs_are_squared_residuals_of_lines() -> None:
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.random(9)), rng.normal(size=(9, 2))
    costs = segment_costs(y, x)
    for s, t in ((0, 9), (2, 6), (5, 8), (3, 5)):
        line = np.column_stack([np.ones(t - s), x[s:t]])
        left = y[s:t] - line @ np.linalg.lstsq(line, y[s:t], rcond=None)[0]
        assert costs[s, t] == pytest.approx(float((left**2).sum()), abs=1e-10)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_planted_changes_are_found_at_any_scale(scale: float) -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(0, 3, 30)
    course = np.interp(x, [0, 1, 2, 3], [0, 0, 2, 2])
    level = np.where(x < 2, 0.0, -1.0)
    y = scale * (np.column_stack([course, level]) + 0.05 * rng.normal(size=(30, 2)))
    cuts = change_points(y, x)
    assert [float(x[c]) for c in cuts] == pytest.approx([1.0, 2.0], abs=0.15)


def test_a_straight_course_is_rarely_cut() -> None:
    rng = np.random.default_rng(2)
    course = np.linspace(0, 3, 20)[:, None]
    cut = [bool(change_points(course + rng.normal(size=(20, 3)))) for _ in range(200)]
    assert np.mean(cut) < 0.15
    cut = [bool(change_points(course + rng.normal(size=(20, 1)), noise=1.0)) for _ in range(200)]
    assert np.mean(cut) < 0.12
    assert change_points(np.linspace(0, 1, 20)) == ()
    assert change_points(np.full(20, 3.0)) == ()


def test_noise_is_that_of_the_values_and_not_of_the_course() -> None:
    rng = np.random.default_rng(3)
    x = np.sort(rng.random(4000))
    y = 5 * x + 3 * (x > 0.5) + 0.2 * rng.normal(size=4000)
    assert noise_of(y, x) == pytest.approx(0.2, rel=0.05)
    assert noise_of(2 * x, x) == pytest.approx(0.0, abs=1e-12)


def test_short_series_have_no_cut() -> None:
    assert change_points(np.array([0.0, 0.0, 0.0, 9.0, 9.0])) == ()


def test_bad_input_says_what_to_do() -> None:
    y = np.arange(10.0)
    with pytest.raises(BadInput, match="ascending places"):
        change_points(y, np.zeros(10))
    with pytest.raises(BadInput, match="ascending places"):
        change_points(y, np.arange(9.0))
    with pytest.raises(BadInput, match="leave those moments out"):
        change_points(np.where(y == 3, np.nan, y))
    with pytest.raises(BadInput, match="least=2"):
        change_points(y, least=2)
    with pytest.raises(BadInput, match="noise=-1"):
        change_points(y, noise=-1.0)
    with pytest.raises(BadInput, match="2 moments"):
        noise_of(y[:2], y[:2])
