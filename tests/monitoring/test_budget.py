"""The budget of a monitor, on a clock that the test turns."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from geomfeat.monitoring.budget import Budget, rounded_up


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def simulated(
    max_share: float | None, every: int, of_step: float, of_measurement: float, steps: int
) -> tuple[Budget, list[int], list[float]]:
    clock = Clock()
    budget, measured, shares = Budget(every, max_share, clock), list[int](), list[float]()
    for step in range(1, steps + 1):
        clock.now += of_step
        budget.enter()
        if budget.due(step):
            with budget.measuring(step):
                clock.now += of_measurement
            measured.append(step)
            shares.append(budget.share)
    return budget, measured, shares


def test_cheap_measurements_are_made_as_often_as_asked_for() -> None:
    budget, measured, _ = simulated(0.05, 10, 1.0, 0.01, 100)
    assert measured == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91]
    assert budget.every == 10
    assert budget.share == pytest.approx(9 * 0.01 / 99, rel=1e-9)


def test_every_grows_until_measuring_takes_no_more_than_its_share() -> None:
    """A measurement of 3 seconds may be made every 60 steps of a second: 100, as a round number."""
    budget, measured, shares = simulated(0.05, 10, 1.0, 3.0, 3000)
    assert measured[:2] == [1, 11]
    assert budget.every == 100
    assert {b - a for a, b in pairwise(measured[3:])} == {100}
    assert all(share <= 0.05 + 1e-9 for share in shares[2:])


def test_every_goes_back_once_steps_take_longer() -> None:
    clock = Clock()
    budget = Budget(10, 0.05, clock)
    for step in range(1, 4001):
        clock.now += 0.1 if step < 200 else 10.0
        budget.enter()
        if budget.due(step):
            with budget.measuring(step):
                clock.now += 1.0
    assert budget.every == 10


def test_without_a_limit_all_that_is_asked_for_is_measured() -> None:
    _, measured, _ = simulated(None, 1, 1e-3, 5.0, 20)
    assert measured == list(range(1, 21))


def test_the_share_is_not_known_before_any_training() -> None:
    assert math.isnan(Budget(1, 0.05).share)


@pytest.mark.parametrize(("steps", "expected"), [(1.0, 1), (1.01, 2), (2.0, 2), (9.0, 10), (10.0, 10), (501.0, 1000)])
def test_round_numbers(steps: float, expected: int) -> None:
    assert rounded_up(steps) == expected
