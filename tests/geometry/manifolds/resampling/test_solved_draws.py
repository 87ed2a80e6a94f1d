"""A problem without some of its points, from its solution: equal to solving it anew."""

from __future__ import annotations

import pytest
import torch

from geomfeat.geometry.manifolds import as_manifolds, capacity
from geomfeat.geometry.manifolds.random_directions import Draws
from geomfeat.geometry.manifolds.resampling.data_errors import NUMBERS, numbers
from geomfeat.geometry.manifolds.resampling.solved_draws import Placed, Solved, placed, solved
from tests.geometry.clouds import normal, signs, spheres

ON_A_RAY = torch.cat([spheres(3, 5, 12, 0.8, 4), 2 * spheres(3, 5, 12, 0.8, 4)], 1)
CLOUDS = {
    "plain": spheres(5, 6, 14, 0.8, 4),
    "many points": spheres(4, 8, 6, 0.8, 4),
    "wide": normal(3, 4, 30),
    "fewer points than units after": normal(4, 5, 18),
    "not unique": ON_A_RAY,
    "far": 1e5 + spheres(4, 6, 10, 0.8, 4),
}


def problem(x: torch.Tensor) -> tuple[Placed, Draws, Solved]:
    place = placed(as_manifolds(x))
    draws = place.draws(Draws(normal(40, x.shape[2], seed=3), signs(40, len(x), seed=3), None))
    return place, draws, solved(place, draws, place.project(draws.t, draws.y))


@pytest.mark.parametrize("x", CLOUDS.values(), ids=CLOUDS)
def test_leaving_points_out_is_solving_without_them(x: torch.Tensor) -> None:
    _, draws, whole = problem(x)
    owner = torch.arange(len(x)).repeat_interleave(x.shape[1])
    for first in range(3):
        gone = torch.arange(len(owner)) % x.shape[1] == first
        found = whole.without(gone)
        again = capacity(
            x.flatten(0, 1)[~gone], owner[~gone], draws=(normal(40, x.shape[2], seed=3), draws.y), resample=None
        )
        for name, value in numbers(found, judge=True).items():
            assert value == pytest.approx(getattr(again, name), rel=1e-6, nan_ok=True), name
        assert torch.equal(found.found.certified, again.certified)


def test_draws_that_do_not_rest_on_the_points_are_not_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, whole = problem(CLOUDS["plain"])
    solved_again = []
    module = __import__("sys").modules["geomfeat.geometry.manifolds.resampling.solved_draws"]
    honest = module.project_on_cones

    def counting(x: torch.Tensor, owner: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> object:
        solved_again.append(len(t))
        return honest(x, owner, t, y)

    monkeypatch.setattr(module, "project_on_cones", counting)
    gone = torch.zeros(30, dtype=torch.bool)
    gone[0] = True
    whole.without(gone)
    rests = int((whole.found.support == 0).any(1).sum())
    assert 0 < rests < 40
    assert solved_again == [rests]


def test_leaving_nothing_out_changes_nothing() -> None:
    _, _, whole = problem(CLOUDS["plain"])
    assert numbers(whole.without(torch.zeros(30, dtype=torch.bool)), True) == numbers(whole, True)
    assert set(numbers(whole, True)) == set(NUMBERS)
