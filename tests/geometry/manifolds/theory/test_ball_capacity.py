"""The ball's capacity against closed forms, limits, a plain double integral and draws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.integrate import quad

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import ball_capacity
from tests.geometry.clouds import normal
from tests.reference import replica as reference


def gardner(kappa: float) -> float:
    """Gardner 1988: 1 / integral over t > -kappa of (t + kappa)^2 under the standard normal density."""
    density = lambda t: (t + kappa) ** 2 * math.exp(-t * t / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    return 1 / quad(density, -kappa, 40, epsabs=1e-13, epsrel=1e-12)[0]


@pytest.mark.parametrize("radius", [1e-8, 1e-3, 0.1, 0.3, 1.0, 3.0, 1e3, 1e8])
def test_segments_and_discs(radius: float):
    angle = math.atan(radius)
    assert ball_capacity(radius, 1) == pytest.approx(1 / (0.5 + 2 / math.pi * angle), rel=1e-9)
    # sin - cos + 1 as one sum, which keeps its digits at small angles.
    assert ball_capacity(radius, 2) == pytest.approx(1 / (1.5 + math.sin(angle) - math.cos(angle)), rel=1e-9)


@pytest.mark.parametrize("dimension", [0.25, 1, 2, 3.5, 10, 100, 3000, 1e5])
def test_a_half_angle_of_45_degrees_halves_the_space(dimension: float):
    """The cone and its polar are congruent, so each has half of the dimensions: also where D is not whole."""
    assert ball_capacity(1.0, dimension) == pytest.approx(2 / (dimension + 1), rel=1e-9)


@settings(deadline=None, max_examples=8)
@given(radius=st.floats(1e-4, 1e4), dimension=st.floats(0.1, 500))
def test_a_cone_and_its_polar_share_the_dimensions(radius: float, dimension: float):
    both = 1 / ball_capacity(radius, dimension) + 1 / ball_capacity(1 / radius, dimension)
    assert both == pytest.approx(dimension + 1, rel=1e-8)


def test_published_values():
    assert ball_capacity(0.5, 5) == pytest.approx(0.576511, abs=1e-6)
    assert ball_capacity(2.0, 20) == pytest.approx(0.0617133, abs=1e-7)


@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0, 4.0])
def test_no_radius_or_no_dimension_is_a_point(kappa: float):
    expected = gardner(kappa)
    for radius, dimension in ((0.0, 3.0), (2.0, 0.0), (1e-10, 3.0), (0.5, 1e-10)):
        assert ball_capacity(radius, dimension, kappa) == pytest.approx(expected, rel=1e-8)
    assert gardner(0.0) == pytest.approx(2.0)


@pytest.mark.parametrize(("radius", "kappa"), [(0.5, 0.5), (2.0, 1.5)])
def test_discs_with_a_margin_equal_the_double_integral(radius: float, kappa: float):
    assert 1 / ball_capacity(radius, 2, kappa) == pytest.approx(reference.disc_load(radius, kappa), rel=1e-7)


@settings(deadline=None, max_examples=4)
@given(radius=st.floats(0.01, 20), dimension=st.floats(0.5, 200), kappa=st.floats(0, 3), more=st.floats(1.01, 3))
def test_capacity_falls_with_radius_dimension_and_margin(radius: float, dimension: float, kappa: float, more: float):
    here = ball_capacity(radius, dimension, kappa)
    assert ball_capacity(more * radius, dimension, kappa) < here
    assert ball_capacity(radius, more * dimension, kappa) < here
    assert ball_capacity(radius, dimension, kappa + more) < here


def test_draws_give_the_same_mean():
    radius, d, kappa = 0.7, 6, 0.4
    t = normal(200_000, d + 1, seed=3)
    a, b = t[:, :d].norm(dim=1), t[:, d] + kappa
    on_edge = (radius * a + b).clamp_min(0).square() / (1 + radius**2)
    load = torch.where(a <= radius * b, a.square() + b.square(), on_edge)
    error = float(load.std()) / len(t) ** 0.5
    assert abs(float(load.mean()) - 1 / ball_capacity(radius, d, kappa)) < 4 * error


@pytest.mark.parametrize("bad", [{"radius": -1.0}, {"dimension": math.nan}, {"kappa": math.inf}])
def test_bad_input_is_named(bad: dict[str, float]):
    with pytest.raises(BadInput, match=next(iter(bad))):
        ball_capacity(**{"radius": 1.0, "dimension": 2.0, **bad})
