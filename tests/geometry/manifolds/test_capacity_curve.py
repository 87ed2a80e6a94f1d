"""Sub-sampling curves against exact answers at every size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import CapacityCurve, capacity_curve
from geomfeat.numerics import WORKING
from tests.geometry.clouds import normal, simplices, spheres
from tests.geometry.manifolds.test_capacity import binomial_alpha


def assert_follows(curve: CapacityCurve, exact: list[float]) -> None:
    """Within 4 standard errors at every size, where the error is the larger of the two that are message."""
    for size, alpha, found, *errors in zip(
        curve.sizes, exact, curve.mean["capacity"], curve.se["capacity"], curve.se_draws["capacity"], strict=True
    ):
        assert abs(float(found) - alpha) < 4 * float(max(errors)), size
        assert float(max(errors)) < 0.1 * alpha


def test_simplices_fall_as_two_over_the_points() -> None:
    curve = capacity_curve(simplices(8, 6), sizes=[1, 2, 3, 6], repeats=3, n_draws=150)
    assert_follows(curve, [2.0, 1.0, 2 / 3, 1 / 3])


def test_independent_points_along_features() -> None:
    """P / E min(Bin(P, 1/2), N): 2 once there are as many units as points, more below."""
    curve = capacity_curve(normal(24, 1, 48), along="features", sizes=[4, 8, 24, 48], repeats=3, n_draws=150)
    assert_follows(curve, [binomial_alpha(24, n) for n in (4, 8, 24, 48)])
    assert binomial_alpha(24, 24) == 2.0


@pytest.mark.parametrize("dichotomies", ["random", "one-vs-rest", torch.ones(100, 12)])
def test_capacity_does_not_depend_on_how_many_orthogonal_manifolds_there_are(dichotomies: object) -> None:
    curve = capacity_curve(
        simplices(12, 2), along="manifolds", sizes=[3, 12], repeats=3, n_draws=100, dichotomies=dichotomies
    )
    assert_follows(curve, [1.0, 1.0])


def test_a_sample_of_a_ball_falls_towards_the_ball() -> None:
    ball = 0.576511  # orthogonal 5-balls of radius .5, Chung et al. 2018 at kappa = 0
    points = torch.zeros(6, 128, 36, dtype=WORKING)
    for i in range(6):
        points[i, :, 6 * i] = 1.0
        points[i, :, 6 * i + 1 : 6 * i + 6] = 0.5 * torch.nn.functional.normalize(normal(128, 5, seed=i), dim=1)
    curve = capacity_curve(points, sizes=[2, 8, 32, 128], repeats=2, n_draws=150)
    alpha = curve.mean["capacity"]
    assert bool((alpha.diff() < 0).all())
    # Points are nested and draws common: within a repeat more points never lower |p|^2, so that the fall is strict.
    assert bool((curve.values["capacity"].diff(dim=0) < 0).all())
    assert ball < float(alpha[-1]) < 0.68
    assert float(alpha[0]) > 1


def test_the_error_is_that_of_sub_samples_and_draws_together() -> None:
    """The stated error of a mean of 3 repeats, against the spread of that mean over seeds."""
    x = spheres(4, 16, 40, 1.0, 6)
    runs = [capacity_curve(x, sizes=[4], repeats=3, n_draws=20, seed=seed) for seed in range(24)]
    spread = np.std([float(r.mean["capacity"][0]) for r in runs], ddof=1)
    claimed = math.sqrt(np.mean([float(r.se["capacity"][0]) ** 2 for r in runs]))
    assert 0.75 < claimed / spread < 1.3
    draws = math.sqrt(np.mean([float(r.se_draws["capacity"][0]) ** 2 for r in runs]))
    assert 0.4 < draws / spread < 1.1


def test_default_sizes_halve_down_from_the_smallest_class() -> None:
    parts = [normal(n, 20, seed=n) for n in (12, 9, 17)]
    assert capacity_curve(parts, n_draws=4, repeats=1).sizes == (2, 4, 9)
    assert capacity_curve(parts, n_draws=4, repeats=1, along="features").sizes == (2, 5, 10, 20)
    once = capacity_curve(parts, n_draws=4, repeats=1, along="manifolds")
    assert once.sizes == (2, 3)
    torch.testing.assert_close(once.se["capacity"], once.se_draws["capacity"])


def test_classes_count_alike_and_order_does_not_matter() -> None:
    """Every class gives as many points: with one of 1 and one of 7 points, size 1 leaves two single points."""
    curve = capacity_curve([normal(1, 9), normal(7, 9, seed=1)], sizes=[1], repeats=2, n_draws=300)
    assert_follows(curve, [2.0])
    x, labels = normal(12, 6), torch.arange(12) % 3
    by_size = [capacity_curve(x, labels, sizes=sizes, repeats=2, n_draws=20) for sizes in ([2, 4], [4, 2])]
    torch.testing.assert_close(by_size[0].mean["capacity"], by_size[1].mean["capacity"].flip(0))
    assert set(by_size[0].mean) >= {"capacity", "dimension", "radius", "utility", "center_alignment"}


def test_a_sub_sample_that_fails_is_reported() -> None:
    x = torch.zeros(3, 4, 10, dtype=WORKING)
    x[:, :, 0] = 1
    curve = capacity_curve(x, along="features", sizes=[1, 10], repeats=3, n_draws=10)
    assert math.isnan(float(curve.mean["capacity"][0]))
    assert math.isfinite(float(curve.mean["capacity"][1]))
    assert any("sub-samples with 1 features failed: every point is at the origin" in note for note in curve.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"along": "units"}, "along='units'"),
        ({"sizes": [2, 6]}, "the smallest class has 5 points"),
        ({"sizes": [0]}, "from 1 to 5"),
        ({"sizes": [2, 2]}, "different whole numbers"),
        ({"sizes": [2.5]}, "different whole numbers"),
        ({"sizes": []}, "different whole numbers"),
        ({"along": "features", "sizes": [13]}, "there are 12"),
        ({"repeats": 0}, "repeats=0"),
        ({"n_draws": 1}, "n_draws=1"),
        ({"dichotomies": "all"}, "dichotomies='all'"),
        ({"dichotomies": torch.ones(3, 5)}, "dichotomies have shape"),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        capacity_curve(spheres(4, 5, 12, 0.7, 3), **options)
