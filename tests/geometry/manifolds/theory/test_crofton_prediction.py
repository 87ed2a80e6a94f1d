"""The conic Crofton formula against counting, plane angles and simulation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import (
    capacity,
    predicted_capacity,
    predicted_separability,
    project_on_cones,
    simulated_capacity,
)
from geomfeat.geometry.manifolds.theory.crofton_prediction import _checked, capacity_at_half, crossing
from geomfeat.numerics import WORKING, stream
from tests.geometry.clouds import normal, spheres
from tests.reference import separability as reference


def binomial_faces(n_points: int) -> torch.Tensor:
    """k of independent points: the number of positive coordinates, every pattern once."""
    return torch.tensor([sum(bits) for bits in itertools.product((0, 1), repeat=n_points)])


@pytest.mark.parametrize("n_points", [1, 2, 5, 8])
def test_faces_of_independent_points_give_cover_s_shares_and_two(n_points: int):
    faces = binomial_faces(max(n_points, 1))
    dimensions = torch.arange(n_points + 1)
    share, _ = predicted_separability(faces, dimensions)
    expected = torch.tensor([reference.cover(n_points, int(n)) for n in dimensions], dtype=WORKING)
    torch.testing.assert_close(share, expected)
    assert predicted_capacity(faces, n_points)[0] == pytest.approx(2.0)
    assert predicted_capacity(faces, n_points, rank=n_points)[0] == pytest.approx(2.0)


def test_faces_of_a_wedge_give_its_angle():
    """Two points at an angle lie on one side of a random direction with probability 1 - angle / pi."""
    angle, draws = 0.7, 4000
    x = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=WORKING)
    t = torch.randn(draws, 2, generator=stream(0, "wedge"), dtype=WORKING)
    faces = project_on_cones(x, torch.zeros(2, dtype=torch.long), t, torch.ones(draws, 1, dtype=WORKING)).faces
    share, error = predicted_separability(faces, torch.tensor([1, 2]))
    assert abs(float(share[0]) - (1 - angle / math.pi)) < 4 * float(error[0])
    assert abs(float(share[1]) - 1) < 4 * float(error[1])


def test_dichotomies_that_are_not_separable_count_at_infinity():
    faces, separable = torch.arange(20) % 4, torch.arange(20) < 15
    share, _ = predicted_separability(faces, torch.tensor([2]), separable)
    assert float(share) == pytest.approx(2 * 4 / 20)  # k = 1 occurs in 4 of the separable draws
    assert predicted_capacity(faces, 3, separable)[0] < predicted_capacity(faces, 3)[0]
    assert math.isnan(predicted_capacity(faces, 3, torch.arange(20) < 9)[0])


def test_all_that_can_be_separated_is_so_in_the_points_span():
    """Shares .4 at 2.5 dimensions and 1 at 3, the rank."""
    assert predicted_capacity((torch.arange(20) < 12) + 2, 3, rank=3)[0] == pytest.approx(3 / (2.5 + 0.5 * 0.1 / 0.6))


@pytest.mark.parametrize(("n_manifolds", "radius"), [(2, 0.3), (2, 2.0), (3, 0.6), (7, 1.0)])
def test_the_crossing_is_interpolated_as_the_simulation_does_it(n_manifolds: int, radius: float):
    """Shares of segments are known; k occurs here as often as its intrinsic volume says."""
    volumes = reference.segment_volumes(n_manifolds, radius)
    faces = torch.arange(len(volumes)).repeat_interleave(torch.as_tensor((2e5 * volumes).round()).long())
    expected = n_manifolds / reference.half_crossing(reference.segment_shares(n_manifolds, radius))
    assert predicted_capacity(faces, n_manifolds, rank=2 * n_manifolds)[0] == pytest.approx(expected, rel=1e-3)


def test_the_error_is_the_spread_over_samples():
    k = binomial_faces(12)
    picks = torch.randint(0, len(k), (200, 150), generator=stream(0, "samples"))
    found = [predicted_capacity(k[row], 12) for row in picks]
    value, error = (torch.tensor(column) for column in zip(*found, strict=True))
    assert 0.8 < float(value.std() / error.mean()) < 1.25


def test_prediction_and_simulation_agree_where_no_answer_is_known():
    x = spheres(6, 8, 30, 0.8, 4)
    found = capacity(x, n_draws=300, seed=1)
    expected, error = predicted_capacity(found.faces, 6)
    simulated = simulated_capacity(x, n_trials=300, seed=2)
    assert abs(simulated.capacity - expected) < 4 * math.hypot(error, simulated.capacity_se)
    assert simulated.capacity_se < 0.05 * simulated.capacity


def test_crossing_and_its_error_at_the_ends_of_the_curve():
    assert crossing([0.0, 1.0, 2.0], [0.0, 0.4, 0.4], 0.5) == math.inf
    assert crossing([0.0, 1.0, 2.0], [0.0, 0.5, 0.5], 0.5) == 1.0
    value, error = capacity_at_half([0.0, 1.0, 2.0], [0.0, 0.2, 0.51], 2, 0.05)  # the upper reading, .55, is never met
    assert 1.0 < value < 1.1
    assert error == pytest.approx(2 / (1 + 0.2 / 0.31) / 4)
    assert all(map(math.isnan, capacity_at_half([-1.0, 0.0, 1.0], [0.0, 0.6, 1.0], 2, 0.05)))


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInput, match="at least 2"):
        predicted_capacity(torch.tensor([1]), 3)
    with pytest.raises(BadInput, match="one per draw"):
        _checked(torch.tensor([1, 2]), torch.ones(3, dtype=torch.bool))


def test_correlation_does_not_matter_to_random_labels_of_independent_points():
    x = normal(8, 1, 20) + 3 * normal(1, 1, 20, seed=5)
    found = capacity(x, n_draws=400)
    value, error = predicted_capacity(found.faces, 8)
    assert abs(value - 2) < 4 * error
