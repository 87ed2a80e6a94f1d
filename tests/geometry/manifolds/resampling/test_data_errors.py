"""Errors over data: equal to their definition, as large as the spread over repeats, and said in words."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import Capacity, capacity, capacity_by_layer, capacity_difference
from geomfeat.geometry.manifolds.resampling.data_errors import NUMBERS
from geomfeat.numerics import WORKING
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal, signs, spheres
from tests.reference import data_errors as reference
from tests.shared_data import shared

SIX = ("capacity", "dimension", "radius", "utility", "center_alignment", "axis_alignment")


def trials(seed: int) -> torch.Tensor:
    """Ten trials of each of six conditions in 40 units, whose centres are always the same."""
    return (normal(6, 1, 40, seed=1000) + normal(6, 10, 40, seed=seed)) / 40**0.5


@pytest.mark.parametrize("center", [None, "global"])
@pytest.mark.parametrize("source", ["groups", "units"])
def test_errors_equal_their_definition(source: str, center: str | None) -> None:
    x, owner = spheres(4, 6, 14, 0.8, 4).flatten(0, 1) + 0.2, torch.arange(4).repeat_interleave(6)
    groups = torch.tensor([0, 0, 1, 2, 2, 3]).repeat(4)
    t, y = normal(40, 14, seed=3), signs(40, 4, seed=3)
    found = capacity(x, owner, draws=(t, y), groups=groups, resample=source, center=center)
    alone = capacity(x, owner, draws=(t, y), groups=groups, resample=None, center=center)
    units = source == "units"
    parts = [np.array([i]) for i in range(14)] if units else [np.flatnonzero(groups == g) for g in range(4)]

    @cache
    def of_rows(rows: tuple[int, ...], first: int, last: int) -> Capacity:
        kept, draws = list(rows), slice(first, last)
        some = (x[:, kept], owner, t[draws][:, kept]) if units else (x[kept], owner[kept], t[draws])
        return capacity(*some[:2], draws=(some[2], y[draws]), resample=None, center=center)

    def number(name: str, rows: np.ndarray, draws: slice) -> float:
        return getattr(of_rows(tuple(rows.tolist()), *draws.indices(40)[:2]), name)

    for name in ("capacity", "dimension", "radius", "center_alignment", "axis_alignment"):
        over_data = reference.variance(lambda *part, n=name: number(n, *part), parts, 14 if units else 24, 40)
        assert getattr(found, name) == getattr(alone, name)
        expected = math.hypot(getattr(alone, f"{name}_se"), max(over_data, 0.0) ** 0.5)
        assert getattr(found, f"{name}_se") == pytest.approx(expected, rel=1e-6), name
    assert found.errors_over == ("draws and 14 units" if units else "draws and 4 groups")


@pytest.fixture(scope="module")
def sessions() -> list[Capacity]:
    runs = torch.arange(10).repeat(6)
    return [capacity(trials(seed), groups=runs, n_draws=50, seed=seed // 2) for seed in range(28)]


def test_errors_cover_the_spread_over_repeats(sessions: list[Capacity]) -> None:
    """Two sessions of each of 14 seeds. benchmarks/error_coverage.py has 200 repeats."""
    for name in SIX:
        value = np.array([getattr(one, name) for one in sessions])
        error = np.array([getattr(one, f"{name}_se") for one in sessions])
        assert np.mean(np.abs(value - value.mean()) < 1.96 * error) >= 24 / 28, name
        assert 0.8 < np.sqrt(np.mean(error**2)) / value.std(ddof=1) < 1.45, name


def test_two_sessions_of_one_population_do_not_differ(sessions: list[Capacity]) -> None:
    """Draws in common, trials apart: by the draws alone, centre alignments would differ in most pairs."""
    found = [capacity_difference(a, b) for a, b in zip(sessions[::2], sessions[1::2], strict=True)]
    names = ("difference", *SIX[1:])
    z = np.array([[getattr(one, name) / getattr(one, f"{name}_se") for name in names] for one in found])
    # 14 pairs cannot show a rate for each number; errors from ten runs have nine degrees of freedom, for which .08 lie
    # beyond 1.96.
    assert np.mean(np.abs(z) > 1.96) <= 0.12
    assert np.all(np.abs(np.sqrt(np.mean(z**2, axis=0)) - 1) < 0.4), np.sqrt(np.mean(z**2, axis=0))
    alone = [capacity(trials(seed), n_draws=50, seed=seed // 2, resample=None) for seed in range(28)]
    blind = [capacity_difference(a, b) for a, b in zip(alone[::2], alone[1::2], strict=True)]
    assert np.sqrt(np.mean([(one.center_alignment / one.center_alignment_se) ** 2 for one in blind])) > 1.5
    assert blind[0].errors_over == "draws"
    assert found[0].errors_over == "draws and 10 groups"


def test_halves_of_the_voxels_do_not_differ_with_units_resampled() -> None:
    """Visual cortex, patterns of eight categories in twelve runs; benchmarks/error_coverage.py has 40 halves."""
    data = np.load(shared("data/haxby-1slice.npz"))
    x, category, run = data["responses"].astype(float), data["category"], data["run"]
    mean = [[x[(category == c) & (run == r)].mean(0) for r in np.unique(run)] for c in np.unique(category)]
    patterns = torch.tensor(np.array(mean))
    z = []
    for seed in range(3):
        order = torch.randperm(530, generator=torch.Generator().manual_seed(seed))
        halves = [
            capacity(patterns[:, :, half], n_draws=30, seed=seed, resample="units")
            for half in (order[:265], order[265:])
        ]
        found = capacity_difference(*halves)
        z.append([getattr(found, name) / getattr(found, f"{name}_se") for name in ("difference", *SIX[1:])])
        assert found.errors_over == "draws and 265 units"
    assert np.mean(np.abs(z) > 1.96) <= 0.1, np.round(z, 2)


def test_layers_of_the_same_trials_are_paired() -> None:
    x = trials(5).flatten(0, 1)
    labels, runs = torch.arange(6).repeat_interleave(10), torch.arange(10).repeat(6)
    layers = {"a": Representation(x, labels, groups=runs)}
    layers["b"] = Representation(x + 0.02 * normal(60, 40), labels, groups=runs)
    found = capacity_by_layer(layers, n_draws=60)
    assert {one.errors_over for one in found.values()} == {"draws and 10 groups"}
    paired = capacity_difference(found["a"], found["b"])
    apart = capacity_difference(found["a"], found["b"], same_samples=False)
    assert paired.log_difference_se < 0.5 * apart.log_difference_se
    assert paired.log_difference_se_unpaired == apart.log_difference_se_unpaired
    lone = capacity_difference(found["a"], capacity_by_layer({"b": layers["b"]}, n_draws=60, resample=None)["b"])
    assert lone.errors_over == "draws"
    assert lone.notes == ("errors over groups are known of one side only, and left out",)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([0, 1] * 12, "no error over groups: 2 groups are too few"),
        ([0] * 6 + [1, 2, 3] * 6, "class 0 has points in one of the groups only"),
    ],
)
def test_groups_that_give_no_error_are_a_note(groups: list[int], said: str) -> None:
    found = capacity(spheres(4, 6, 14, 0.8, 4), groups=groups, n_draws=20)
    assert found.errors_over == "draws"
    assert any(said in note for note in found.notes)
    assert found.capacity_se == capacity(spheres(4, 6, 14, 0.8, 4), n_draws=20, resample=None).capacity_se


def test_what_is_resampled_by_default() -> None:
    assert capacity(normal(4, 25, 120), n_draws=10).errors_over == "draws and 100 trials"
    assert capacity(normal(4, 26, 120), n_draws=10).errors_over == "draws"
    assert capacity(normal(4, 26, 120), n_draws=10, resample="trials").errors_over == "draws and 104 trials"
    runs = [f"run {i % 13}" for i in range(104)]
    assert capacity(normal(4, 26, 120), n_draws=10, groups=runs).errors_over == "draws and 13 groups"
    at_floor = capacity(normal(4, 26, 20), n_draws=10, groups=runs)
    assert (at_floor.at_floor, at_floor.errors_over) == (True, "draws")
    assert capacity(normal(4, 26, 20), n_draws=10, groups=runs, resample="groups").errors_over == "draws and 13 groups"
    assert capacity(normal(5, 1, 9), n_draws=10).errors_over == "draws"
    asked = capacity(normal(5, 1, 9), n_draws=10, resample="trials")
    assert any("no error over trials" in note for note in asked.notes)


def test_copies_in_several_groups_stay_with_any_of_them() -> None:
    """Points that are there again in another group are never left out: nothing changes without either."""
    x = spheres(3, 4, 10, 0.8, 4).flatten(0, 1)
    owner = torch.arange(3).repeat_interleave(4).repeat(3)
    found = capacity(x.repeat(3, 1), owner, groups=torch.arange(3).repeat_interleave(12), n_draws=30)
    alone = capacity(x, owner[:12], n_draws=30, resample=None)
    assert found.capacity == pytest.approx(alone.capacity)
    assert found.capacity_se == pytest.approx(alone.capacity_se)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resample": "neurons"}, "resample='neurons': use 'auto', None"),
        ({"resample": ("groups", "trials"), "groups": [0, 1, 2, 3] * 3}, "name one of the two"),
        ({"groups": [0, 1]}, "groups"),
    ],
)
def test_bad_input_is_named(options: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        capacity(spheres(3, 4, 9, 0.7, 3), **options)


def test_numbers_of_the_measure_say_what_their_errors_cover() -> None:
    labels, runs = torch.arange(6).repeat_interleave(10), torch.arange(10).repeat(6)
    rep = Representation(trials(0).flatten(0, 1), labels, groups=runs)
    found = get("capacity")(rep, n_draws=40)
    assert {found[name].note for name in NUMBERS} == {"error over draws and 10 groups"}
    assert found["alignment_floor"].note == ""
    assert found["capacity"].stderr > get("capacity")(rep, n_draws=40, resample=None)["capacity"].stderr


def test_numbers_at_the_floor_have_errors_too() -> None:
    found = capacity(normal(3, 30, 4, seed=5), n_draws=30, resample="trials")
    assert found.at_floor
    assert found.frac_inside_se < 0.2
    assert torch.isfinite(torch.tensor([found.capacity_se, found.frac_nonseparable_se], dtype=WORKING)).all()
