"""Similarities of two layers as registered measures: a known answer for each, notes and failed rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geomfeat import geometry
from geomfeat.numerics import stream
from geomfeat.registry import get
from geomfeat.types import Estimate, Representation

ASKED = (
    "cca_mean", "cca_mean_squared", "cka_rbf_unbiased", "linear_predictivity_r2", "linear_regression_r2", "mutual_knn",
    "neighbour_jaccard", "procrustes_distance", "pwcca", "shape_angle", "shape_distance", "svcca",
)  # fmt: skip


def directions(n: int, count: int) -> Tensor:
    """Orthonormal directions of samples, each of mean zero."""
    noise = torch.randn(n, count, generator=stream(0, n, count), dtype=torch.float64)
    return torch.linalg.qr(torch.cat([torch.ones(n, 1).double(), noise], 1)).Q[:, 1:]


def of(name: str, a: Tensor, b: Tensor) -> Estimate:
    return get(name).run(Representation(a), Representation(b))[name]


@pytest.mark.parametrize("name", ASKED)
def test_they_wait_to_be_asked(name: str) -> None:
    assert not get(name).by_default


# One direction of samples in each layer, at an angle of .3: every number is a function of it.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cca_mean", math.cos(0.3)), ("cca_mean_squared", math.cos(0.3) ** 2), ("svcca", math.cos(0.3)),
        ("pwcca", math.cos(0.3)), ("linear_regression_r2", math.cos(0.3) ** 2), ("shape_angle", 0.3),
        ("procrustes_distance", 2 * math.sin(0.15)), ("shape_distance", 2 * math.sin(0.15)),
    ],
)  # fmt: skip
def test_known_answers_of_an_angle(name: str, expected: float) -> None:
    u, v = directions(30, 2).T
    got = of(name, u[:, None], (math.cos(0.3) * u + math.sin(0.3) * v)[:, None])
    assert got.value == pytest.approx(expected, rel=1e-9)
    assert got.stderr > 0


@pytest.mark.parametrize("name", [name for name in ASKED if hasattr(geometry, name)])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_function_and_the_measure_give_the_same(name: str, grouped: bool) -> None:
    groups = torch.arange(40) // 4 if grouped else None
    a, b = (Representation(torch.randn(40, 5, generator=stream(0, side)), groups=groups) for side in "ab")
    found = get(name)(a, b)
    assert getattr(geometry, name)(a, b) == found
    assert found.note.count("error over 10 groups") == int(grouped)


def test_pwcca_weighs_by_the_first_layer() -> None:
    q = directions(30, 4)
    a = q[:, :2] * torch.tensor([3.0, 1.0]).double()
    b = torch.stack([q[:, 0], q[:, 2]], 1)  # one direction shared, one not
    # Weights |<h, a_j>| over both units of a: 3 on the shared direction, 1 on the other.
    assert of("pwcca", a, b).value == pytest.approx(0.75, rel=1e-6)
    assert of("cca_mean", a, b).value == pytest.approx(0.5, rel=1e-6)


def test_prediction_has_a_direction() -> None:
    a = torch.randn(100, 4, generator=stream(0, "a"), dtype=torch.float64)
    assert of("linear_predictivity_r2", a, a[:, :1]).value > 0.999
    assert of("linear_predictivity_r2", a[:, :1], a).value == pytest.approx(0.25, abs=0.1)
    independent = torch.randn(100, 4, generator=stream(0, "b"), dtype=torch.float64)
    assert abs(of("linear_predictivity_r2", a, independent).value) < 0.1


def test_neighbours_of_two_groups_are_the_groups() -> None:
    # Eleven samples around each of two directions: ten neighbours are the rest of the group, whatever the layer.
    group = torch.arange(22) % 2
    noise = [0.01 * torch.randn(22, 2, generator=stream(k), dtype=torch.float64) for k in (0, 1)]
    layers = [torch.eye(2).double()[group] + part for part in noise]
    for name in ("mutual_knn", "neighbour_jaccard"):
        assert of(name, *layers).value == 1
    shuffled = layers[1].roll(1, 0)
    assert of("mutual_knn", layers[0], shuffled).value == 1  # the groups change places, their members stay together
    other = layers[1][torch.randperm(22, generator=stream(3))]
    assert of("neighbour_jaccard", layers[0], other).value < of("mutual_knn", layers[0], other).value < 0.8
    assert "by chance: 0.476" in of("mutual_knn", *layers).note


def test_gaussian_kernel_of_independent_wide_layers_reads_zero() -> None:
    a, b = (torch.randn(60, 2000, generator=stream(0, side), dtype=torch.float64) for side in "ab")
    got = of("cka_rbf_unbiased", a, b)
    assert abs(got.value) < 4 * got.stderr < 0.3


def test_trivial_correlations_are_reported_and_spanning_features_refused() -> None:
    a, b = (torch.randn(20, 12, generator=stream(0, side), dtype=torch.float64) for side in "ab")
    assert "5 of the correlations are 1 whatever the data" in of("cca_mean", a, b).note
    failed = of("pwcca", a[:12], b[:12])
    assert not failed.ok
    assert "more samples than features" in failed.note
