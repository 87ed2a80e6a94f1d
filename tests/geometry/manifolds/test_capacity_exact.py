"""Clouds whose |p|^2 is known draw by draw, and laws that hold draw by draw."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from geomfeat.geometry.manifolds import capacity
from geomfeat.numerics import WORKING
from tests.geometry.clouds import discs, normal, segments, signs, simplices, spheres, subspaces


def circular(along: Tensor, across: Tensor, radius: float) -> Tensor:
    """|p|^2 on a circular cone of half-angle atan R: t itself inside, its part along the surface near it, else 0."""
    length, angle = torch.hypot(along, across), torch.atan2(across.abs(), along)
    beside = (angle - math.atan(radius)).clamp(0.0, math.pi / 2)
    return (length * beside.cos()).square() * (beside < math.pi / 2)


def blocks(t: Tensor, n_manifolds: int) -> Tensor:
    return t.reshape(len(t), n_manifolds, -1)


def of_segments(t: Tensor, y: Tensor) -> Tensor:
    n = y.shape[1]
    return circular(y * t[:, :n], t[:, n:], 0.7).sum(1)


KNOWN = {
    "orthonormal points": (simplices(7, 1), lambda t, y: (y * t).clamp_min(0).square().sum(1)),
    "simplices": (simplices(4, 3), lambda t, y: (y[:, :, None] * blocks(t, 4)).clamp_min(0).square().sum((1, 2))),
    "lines": (subspaces(5, 1), lambda t, y: t.square().sum(1)),
    "planes": (torch.cat([subspaces(4, 2), torch.zeros(4, 4, 3)], 2), lambda t, y: t[:, :8].square().sum(1)),
    "segments": (segments(5, 0.7), of_segments),
}


@pytest.mark.parametrize("case", KNOWN)
def test_every_draw_is_the_closed_form(case: str):
    x, answer = KNOWN[case]
    t, y = normal(60, x.shape[2], seed=4), signs(60, len(x), seed=4)
    found = capacity(x, draws=(t, y), resample=None)
    torch.testing.assert_close(found.norms2, answer(t, y), rtol=1e-9, atol=1e-12)


def test_random_points_rotated_and_scaled_have_the_same_norms():
    x = spheres(4, 5, 12, 0.7, 3)
    t, y = normal(40, 12, seed=4), signs(40, 4, seed=4)
    turn = torch.linalg.qr(normal(12, 12, seed=9))[0]
    size = normal(4, 5, 1, seed=8).exp() ** 3
    expected = capacity(x, draws=(t, y), resample=None).norms2
    torch.testing.assert_close(
        capacity((size * x) @ turn, draws=(t @ turn, y), resample=None).norms2, expected, rtol=1e-9, atol=1e-12
    )


def test_points_within_the_hull_change_nothing():
    x = spheres(4, 5, 12, 0.7, 3)
    inner = torch.softmax(normal(4, 3, 5, seed=5), 2) @ x
    t, y = normal(40, 12, seed=4), signs(40, 4, seed=4)
    both = capacity(torch.cat([x, inner], 1), draws=(t, y), resample=None)
    torch.testing.assert_close(both.norms2, capacity(x, draws=(t, y), resample=None).norms2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("radius", "d", "alpha", "reached"), [(0.5, 5, 0.576511, 0.9), (2.0, 20, 0.0617133, 0.6)])
def test_samples_of_a_ball_approach_it_from_above(radius: float, d: int, alpha: float, reached: float):
    """Chung et al. 2018 at kappa = 0. One ball will do: orthogonal ones add up."""
    t, y = normal(400, d + 1, seed=1), torch.ones(400, 1)
    ball = circular(t[:, 0], torch.linalg.vector_norm(t[:, 1:], dim=1), radius)
    assert abs(float(ball.mean()) - 1 / alpha) < 4 * float(ball.std()) / 20
    points = torch.cat([torch.ones(400, 1), radius * torch.nn.functional.normalize(normal(400, d), dim=1)], 1)
    last = torch.zeros(400, dtype=WORKING)
    for size in (25, 100, 400):
        found = capacity(points[None, :size], draws=(t, y), resample=None)
        assert (found.norms2 >= last - 1e-9).all()  # adding points can only raise |p|^2
        assert (found.norms2 <= ball + 1e-9).all()
        last = found.norms2
    # In 20 dimensions 400 points are far from covering a sphere.
    assert float(last.mean()) > reached * float(ball.mean())


def test_a_fine_polygon_is_the_disc():
    """A cone between those of the inner and the outer circle, draw by draw."""
    x, n = discs(3, 0.5, 90), 3
    t, y = normal(100, 9, seed=4), signs(100, 3, seed=4)
    part = blocks(t, n)
    along, across = y * part[:, :, 0], torch.hypot(part[:, :, 1], part[:, :, 2])
    norms = capacity(x, draws=(t, y), resample=None).norms2
    assert (norms <= circular(along, across, 0.5).sum(1) + 1e-9).all()
    assert (norms >= circular(along, across, 0.5 * math.cos(math.pi / 90)).sum(1) - 1e-9).all()


@settings(deadline=None, max_examples=8)
@given(
    n_manifolds=st.integers(1, 5), points=st.integers(1, 6), n=st.integers(1, 12), seed=st.integers(0, 10**6),
    kind=st.sampled_from(["plain", "zeros", "collinear", "single", "repeated"]), single=st.booleans(),
)  # fmt: skip
def test_all_shapes_scales_and_precisions_work(
    n_manifolds: int, points: int, n: int, seed: int, kind: str, single: bool
):
    x = normal(n_manifolds, points, n, seed=seed)
    if kind == "zeros":
        x[:, 1:] *= torch.arange(1, points)[None, :, None] % 2
    elif kind == "collinear":
        # Powers of two keep the points on one line in single precision too.
        x = x[:, :1] * torch.tensor([1.0, 2.0, -0.5, 4.0, -8.0, 0.25])[:points, None]
    elif kind == "repeated":
        x = torch.cat([x, x], 1)
    elif kind == "single":
        x = x[:1]
    x = x.float() if single else x
    found = capacity(x, n_draws=20, seed=seed)
    assert found.n_uncertified == 0
    assert math.isnan(found.capacity) or found.capacity > 0
    distinct = torch.unique(x.double().reshape(-1, n), dim=0)
    distinct = distinct[(distinct != 0).any(1)]
    unique = int(torch.linalg.matrix_rank(distinct)) == len(distinct)
    counted = float(found.norms2[~found.inside | unique].mean())
    assert float(found.per_manifold.cost.sum()) == pytest.approx(counted, rel=1e-8, nan_ok=True)
    for size in (1e-12, 1e12):
        scaled = capacity(size * x.double(), n_draws=20, seed=seed, resample=None)
        torch.testing.assert_close(scaled.norms2, found.norms2, rtol=1e-8, atol=1e-10)
        assert scaled.radius == pytest.approx(found.radius, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("size", [2.0**-660, 2.0**500])
def test_no_scale_leaves_the_range_of_numbers(size: float):
    x = spheres(4, 6, 20, 0.7, 4)
    plain, scaled = capacity(x, n_draws=40, resample=None), capacity(size * x, n_draws=40, resample=None)
    for name in ("capacity", "dimension", "radius", "utility", "axis_alignment"):
        assert getattr(scaled, name) == getattr(plain, name)
    torch.testing.assert_close(scaled.per_manifold.anchor_norm / size, plain.per_manifold.anchor_norm)
