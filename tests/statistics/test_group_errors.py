"""Errors over groups: known answers, and the spread of repeated experiments."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import cka
from geomfeat.numerics import jackknife_stderr, stream
from geomfeat.registry import get
from geomfeat.statistics.group_errors import (
    common_groups,
    errors_wanted,
    grouped_stderr,
    jackknife_over_groups,
    parts_of,
    values_alone,
)
from geomfeat.types import Estimate, Representation

LAYER = ["participation_ratio", "effective_rank", "nc1", "label_alignment_unbiased", "two_nn", "correlation_dimension"]
PAIR = ["cka_linear_unbiased", "shape_angle", "mutual_knn", "linear_regression_r2", "representation_change"]


def recorded(seed: int, objects: int = 24, each: int = 5, d: int = 4, spread: float = 0.2) -> Representation:
    """Views of objects, which differ little from each other."""
    draws = stream(seed, "grouped")
    groups = torch.arange(objects).repeat_interleave(each)
    x = torch.randn(objects, d, generator=draws, dtype=torch.float64)[groups]
    x = x + spread * torch.randn(len(groups), d, generator=draws, dtype=torch.float64)
    return Representation(x, groups % 3, "views", groups=groups)


def test_parts_of_one_size_give_the_plain_jackknife() -> None:
    values = torch.randn(12, generator=stream(0, "values"), dtype=torch.float64)
    without = (values.sum() - values) / 11
    found = grouped_stderr(values.mean(), without, torch.full((12,), 7))
    assert float(found) == pytest.approx(jackknife_stderr(without), rel=1e-12)


def test_the_mean_of_groups_of_other_sizes_has_the_error_of_a_ratio() -> None:
    """Delete-group errors of a mean of samples, against repeated draws of the groups."""
    draws = stream(0, "ratio")
    sizes = torch.randint(1, 9, (30,), generator=draws)
    groups = torch.arange(30).repeat_interleave(sizes)
    found, means = [], []
    for _ in range(400):
        x = torch.randn(30, generator=draws, dtype=torch.float64)[groups]
        without, parts = jackknife_over_groups(lambda rows, x=x: float(x[rows].mean()), groups)
        found.append(float(grouped_stderr(float(x.mean()), torch.tensor(without), parts)))
        means.append(float(x.mean()))
    assert sum(found) / 400 == pytest.approx(torch.tensor(means).std().item(), rel=0.1)


@pytest.mark.parametrize("name", [*LAYER, *PAIR])
def test_measures_leave_out_groups(name: str) -> None:
    layer = recorded(0)
    other = recorded(0).with_(x=layer.x + 0.5 * recorded(1).x)
    layers = (layer,) if name in LAYER else (layer, other)
    plain = get(name)(*(one.with_(groups=None) for one in layers))
    found = get(name)(*layers)

    def left_out(group: int) -> float:
        rows = torch.nonzero(layer.groups != group)[:, 0]
        return get(name)(*(one.with_(groups=None).take(rows) for one in layers)).value

    assert found.value == plain.value
    assert found.stderr == pytest.approx(jackknife_stderr([left_out(g) for g in range(24)]), rel=1e-9)
    assert found.note.endswith("error over 24 groups")
    assert "groups" not in plain.note


def test_grouped_errors_are_those_of_repeated_recordings() -> None:
    uneven = torch.tensor([4.0, 2.0, 1.0, 0.5])
    layers = [recorded(seed, objects=60) for seed in range(80)]
    layers = [layer.with_(x=layer.x * uneven) for layer in layers]
    found = [get("participation_ratio")(layer) for layer in layers]
    plain = [get("participation_ratio")(layer.with_(groups=None)) for layer in layers]
    spread = torch.tensor([one.value for one in found]).std().item()
    mean = lambda several: sum(one.stderr for one in several) / len(several)  # noqa: E731
    assert mean(found) == pytest.approx(spread, rel=0.25)
    assert mean(plain) < 0.6 * mean(found)


def test_what_has_no_error_over_samples_has_none_over_groups() -> None:
    found = get("pca_components")(recorded(0))
    assert all(one.stderr is None and one.note == "" for one in found.values())
    curve = get("power_law_exponent")(recorded(0, d=30))
    assert curve["exponent"].note == "error over 24 groups"
    assert curve["r2"].stderr is None


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (torch.arange(40) % 2, "2 groups are too few for an error over groups"),
        (torch.tensor([0] * 38 + [1, 2]), "2 samples remain without one of the groups, and 4 are needed"),
    ],
)
def test_groups_that_give_no_error_are_reported(groups: torch.Tensor, said: str) -> None:
    x = torch.randn(40, 3, generator=stream(0, "few"))
    found = get("cka_linear_unbiased")(Representation(x, groups=groups), Representation(x**3))
    assert found.ok
    assert found.stderr is None
    assert said in found.note
    assert found.value == cka(x, x**3).value


def test_many_groups_are_left_out_in_parts() -> None:
    groups = torch.arange(500)
    assert parts_of(groups).max() == 31
    without, sizes = jackknife_over_groups(len, groups)
    assert int(sizes.sum()) == 500
    assert without == (500 - sizes).tolist()


def test_groups_of_two_layers_must_be_the_same_parts() -> None:
    x = torch.eye(4)
    first, renamed = Representation(x, groups=[0, 0, 1, 1]), Representation(x, groups=["b", "b", "a", "a"])
    assert common_groups(first, renamed).tolist() == [0, 0, 1, 1]
    assert common_groups(x, Representation(x)) is None
    with pytest.raises(BadInput, match="into different groups"):
        common_groups(first, Representation(x, groups=[0, 1, 1, 1]))
    with pytest.raises(BadInput, match="into different groups"):
        get("shape_angle")(first, Representation(x, groups=[0, 1, 1, 1]))


def test_failed_estimates_stay_failed() -> None:
    flat = Representation(torch.ones(12, 3), groups=torch.arange(12) // 3)
    found = get("participation_ratio").run(flat)["participation_ratio"]
    assert not found.ok
    assert math.isnan(found.value)


def test_errors_are_left_out_where_only_values_are_wanted() -> None:
    layer = recorded(0).with_(groups=None)
    with values_alone():
        assert not errors_wanted()
        assert get("participation_ratio")(layer).stderr is None
    assert errors_wanted()
    assert isinstance(get("participation_ratio")(layer), Estimate)


@pytest.mark.parametrize("name", ["capacity_shuffled", "replica_capacity", "simulated_capacity"])
def test_errors_over_draws_say_that_they_are_not_over_groups(name: str) -> None:
    layer = Representation(torch.eye(12) + 0.1, torch.arange(12) // 3)
    for groups in (None, torch.arange(12) // 2):
        found = get(name).run(replace(layer, groups=groups), seed=1)
        with_errors = [e for e in found.values() if e.ok and e.stderr is not None]
        assert with_errors
        said = ["not over the 6 groups of samples" in e.note for e in with_errors]
        assert all(said) if groups is not None else not any(said)
