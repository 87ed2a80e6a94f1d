"""TwoNN against loops, two libraries and known dimensions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension import correlation_dimension, gride, mle_dimension, two_nn
from geomfeat.numerics import stream
from tests.geometry.clouds import normal
from tests.reference import geometry as reference
from tests.shared_data import shared

ANGLE = torch.arange(30, dtype=torch.float64) * 2 * torch.pi / 30
RING = torch.stack([ANGLE.cos(), ANGLE.sin()], 1)


@pytest.mark.parametrize("shape", [(12, 1), (60, 2), (60, 5), (40, 80)])
def test_estimates_equal_loops_over_points(shape: tuple[int, int]):
    x = normal(*shape, seed=2)
    assert two_nn(x).value == pytest.approx(reference.two_nn(x.numpy()), rel=1e-10)
    assert two_nn(x, method="linear").value == pytest.approx(reference.two_nn_linear(x.numpy()), rel=1e-10)


@pytest.mark.parametrize("name", ["M1_Sphere", "M2_Affine_3to5", "M5b_Helix2d", "M7_Roll", "M9_Affine", "M12_Norm"])
def test_benchmark_manifolds_equal_the_libraries(name: str):
    expected = json.loads(shared("refs/dimension/expected.json").read_text())[name]["scikit-dimension"]
    x = torch.as_tensor(np.load(shared("refs/dimension/manifolds.npz"))[name])
    found = two_nn(x)
    assert found.value == pytest.approx(expected["TwoNN_mle_0"], rel=1e-9)
    # The library takes points to be independent; neighbours are not.
    independent = found.value / len(x) ** 0.5
    if name != "M5b_Helix2d":  # there it leaves two points with mu = 175 out
        assert independent == pytest.approx(expected["GRIDE_ms"]["err"][0], rel=1e-3)
    assert 0.999 * independent < found.stderr < 1.6 * independent
    assert two_nn(x, method="linear").value == pytest.approx(expected["TwoNN_linear_0.1"], rel=1e-9)


@pytest.mark.parametrize("method", ["mle", "linear"])
def test_flat_manifolds_have_their_dimension_within_the_error(method: str):
    for d in (1, 2, 4):
        x = torch.rand(1500, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64) @ normal(d, 12)
        found = two_nn(x, method=method)
        assert abs(found.value - d) < 4 * found.stderr
        assert found.stderr < 0.1 * d


def test_copies_are_left_out_and_counted():
    x = normal(80, 3)
    found = two_nn(torch.cat([x, x[:25], x[:5]]))
    assert found.n_duplicates == 30
    assert found.n_used == 80
    assert found.value == two_nn(x).value


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_copies_that_were_rounded_apart_are_copies(dtype: torch.dtype):
    """As features are that a network computed in batches of another size."""
    x = torch.rand(600, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    last = torch.randint(-1, 2, (3, 100, 6), generator=torch.Generator().manual_seed(1)) * torch.finfo(dtype).eps / 2
    copies = (x[:100] * (1 + last)).to(dtype).flatten(0, 1)
    found = two_nn(torch.cat([x, copies]))
    assert found.value == pytest.approx(two_nn(x).value, rel=1e-5)
    assert found.n_duplicates == 300
    assert "300 copies" in found.note
    assert two_nn(torch.cat([x, copies]).double()).value == pytest.approx(found.value, rel=1e-12)


def test_points_that_are_dense_in_their_precision_are_no_copies():
    x = torch.rand(20000, 1, generator=torch.Generator().manual_seed(0))
    found = two_nn(x)
    assert abs(found.value - 1) < 4 * found.stderr
    assert found.n_duplicates == 20000 - len(x.unique())
    assert found.tied < 0.01


def test_a_large_constant_feature_hides_no_distance():
    x = normal(300, 3).float()
    beside = torch.cat([x, torch.full((300, 1), 1e9)], 1)
    assert two_nn(beside).value == pytest.approx(two_nn(x).value, rel=1e-6)


@pytest.mark.parametrize("unit", [1, 0.1, 1 / 255])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tied_distances_are_refused_and_few_of_them_noted(unit: float, dtype: torch.dtype):
    """Even points in a plane, rounded to a grid: the coarser, the more neighbours are at one distance."""
    places = np.random.default_rng(0).uniform(0, 1, (2000, 2))
    with pytest.raises(BadInput, match=r"\d+ % of \d+ points have neighbours 1 and 2 at one distance: tied"):
        two_nn(torch.from_numpy(np.round(60 * places) * unit).to(dtype))
    some = two_nn(torch.from_numpy(np.round(400 * places) * unit).to(dtype))
    assert "are tied" in some.note
    assert some.value == pytest.approx(2, rel=0.15)
    fine = two_nn(torch.from_numpy(np.round(20000 * places) * unit).to(dtype))
    assert fine.note == ""
    assert abs(fine.value - 2) < 4 * fine.stderr


def test_whole_numbers_are_exact_whatever_their_offset():
    counts = torch.randint(0, 10**6, (300, 3), generator=torch.Generator().manual_seed(0))
    assert two_nn(counts + 2**40).value == pytest.approx(two_nn(counts).value, rel=1e-12)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (normal(9, 2), {}, "9 different of 9 points"),
        (normal(1, 2).repeat(50, 1), {}, "1 different of 50 points"),
        (RING, {}, "a lattice"),
        (normal(30, 2), {"method": "levina"}, "method='levina'"),
        (normal(30, 2), {"discard": 0.1}, "discard=0.1"),
    ],
)
def test_bad_input_is_named(x: torch.Tensor, options: dict, message: str):
    with pytest.raises(BadInput, match=message):
        two_nn(x, **options)


@pytest.mark.parametrize("noise", [1e-4, 1e-2])
@pytest.mark.parametrize("estimate", [two_nn, lambda x: gride(x, 1, 2), lambda x: gride(x, 2, 4)])
def test_a_lattice_with_noise_has_no_more_dimensions_than_features(estimate: Any, noise: float) -> None:
    points = torch.cartesian_prod(*[torch.arange(12.0, dtype=torch.float64)] * 3)
    moved = points + noise * torch.randn(points.shape, generator=stream(0, "lattice"), dtype=torch.float64)
    with pytest.raises(BadInput, match=r"of 3 features, which cannot be.*lattice"):
        estimate(moved)
    assert (
        2.5 < two_nn(points + torch.rand(points.shape, generator=stream(0, "cells"), dtype=torch.float64)).value < 3.5
    )


@pytest.mark.parametrize("d", [1, 2, 10])
def test_few_points_of_every_dimension_are_not_refused_for_chance(d: int) -> None:
    for seed in range(100):
        assert two_nn(torch.rand(10, d, generator=stream(seed, "few"), dtype=torch.float64)).value > 0


LATTICES = [(10, 3, 1e-4), (20, 2, 1e-6), (50, 2, 1e-5), (5, 4, 1e-7)]


@pytest.mark.parametrize(("d", "levels", "noise"), LATTICES)
@pytest.mark.parametrize("estimate", [two_nn, gride, lambda x: mle_dimension(x, 20), correlation_dimension])
def test_a_lattice_with_noise_in_many_features_is_refused_as_the_lattice_is(estimate, d, levels, noise) -> None:
    g = stream(0, "lattice", d)
    points = torch.randint(levels, (1000, d), generator=g, dtype=torch.float64)
    for x in (points, points + noise * torch.randn(points.shape, generator=g, dtype=torch.float64)):
        with pytest.raises(BadInput, match=r"tied, as|as on a lattice|which cannot be|median distance"):
            estimate(x)


def test_clouds_of_two_dimensions_are_no_lattice() -> None:
    """Small ratios among large ones, but at no step: half of the points have 20 dimensions, half have 2."""
    g = stream(0, "mixture")
    flat = torch.zeros(500, 20, dtype=torch.float64)
    flat[:, :2] = torch.rand(500, 2, generator=g, dtype=torch.float64)
    x = torch.cat([flat, 3 + 0.1 * torch.randn(500, 20, generator=g, dtype=torch.float64)])
    for estimate in (two_nn, gride, mle_dimension):
        assert 2 < estimate(x).value < 20
    assert 0 <= correlation_dimension(x).value < 20


@pytest.mark.parametrize("n", [12, 60, 400])
def test_continuous_points_are_hardly_ever_taken_for_a_lattice(n: int) -> None:
    found = [two_nn(torch.randn(n, 3, generator=stream(seed, "cloud"), dtype=torch.float64)) for seed in range(60)]
    assert len(found) == 60


def test_correlation_dimension_above_the_features_is_refused() -> None:
    points = torch.cartesian_prod(*[torch.arange(12.0, dtype=torch.float64)] * 3)
    moved = points + 0.01 * torch.randn(points.shape, generator=stream(0, "lattice"), dtype=torch.float64)
    with pytest.raises(BadInput, match=r"the correlation dimension gives a dimension of .* of 3 features"):
        correlation_dimension(moved, (4, 6))
