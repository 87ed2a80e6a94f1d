"""Replica capacity against exact answers, quadratic programmes from its definition, GLUE, and the laws it obeys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import ReplicaCapacity, ball_capacity, capacity, center_correlation, replica_capacity
from geomfeat.geometry.manifolds.center_correlations import least_correlated_rank, shared_directions, without
from geomfeat.geometry.manifolds.theory.replica_theory import (
    ReplicaAnchors,
    manifold_frame,
    manifold_geometry,
    replica_anchors,
)
from geomfeat.numerics import WORKING
from tests.geometry.clouds import discs, normal, segments, simplices, spheres
from tests.reference import replica as reference

QUANTITIES = ["capacity", "radius", "dimension"]
EACH = ["capacities", "radii", "dimensions"]


def within(found: ReplicaCapacity, quantity: str, expected: float, slack: float = 0.0) -> bool:
    return abs(getattr(found, quantity) - expected) < 4 * getattr(found, f"{quantity}_se") + slack


def centred_radius(radius: float, n_manifolds: int) -> float:
    """In units of the centre's length after the global mean of orthogonal unit centres has been subtracted."""
    return radius / math.sqrt(1 - 1 / n_manifolds)


@pytest.mark.parametrize("kappa", [0.0, 0.6])
@pytest.mark.parametrize("radius", [0.3, 2.0])
def test_segments(radius: float, kappa: float):
    found = replica_capacity(segments(12, radius), kappa=kappa, n_draws=1500, seed=1)
    effective = centred_radius(radius, 12)
    assert within(found, "capacity", ball_capacity(effective, 1, kappa))
    assert within(found, "dimension", 1.0)
    assert found.capacity_se < 0.02 * found.capacity
    expected = torch.full((12,), ball_capacity(effective, 1, kappa), dtype=WORKING)
    assert ((found.capacities - expected).abs() < 4.5 * found.capacities_se).all()
    if kappa == 0:
        # The ends +-R, but where T lies in the cone (share angle / pi) the anchor is t / t0, inside the segment.
        angle = math.atan(effective)
        square = effective**2 * (1 - angle / math.pi) + (effective - angle) / math.pi
        assert within(found, "radius", math.sqrt(square))
    assert found.center_correlation == pytest.approx(1 / 11)


def test_discs():
    found = replica_capacity(discs(6, 0.5, 80), n_draws=600, seed=2)
    # A polygon of 80 sides is 1 - cos(pi/80) = .08 % short of the disc.
    assert within(found, "capacity", ball_capacity(centred_radius(0.5, 6), 2), slack=1e-3)


def test_samples_of_a_ball_approach_it_from_above():
    """And the ball of the measured radius and dimension predicts their capacity (Chung et al. 2018)."""
    d, radius, count = 4, 0.8, 4
    found = []
    for points in (20, 400):
        x = torch.zeros(count, points, count * (d + 1), dtype=WORKING)
        for i in range(count):
            half = torch.nn.functional.normalize(normal(points // 2, d, seed=i), dim=1)
            x[i, :, i * (d + 1)] = 1.0
            x[i, :, i * (d + 1) + 1 : (i + 1) * (d + 1)] = radius * torch.cat([half, -half])
        found.append(replica_capacity(x, n_draws=500))
    ball = ball_capacity(centred_radius(radius, count), d)
    few, many = found
    assert few.capacity > many.capacity + 2 * math.hypot(few.capacity_se, many.capacity_se)
    assert ball - 4 * many.capacity_se < many.capacity < 1.1 * ball
    assert many.capacity == pytest.approx(ball_capacity(many.radius, many.dimension), rel=0.15)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.5])
def test_points_have_the_capacity_of_cover_and_gardner(kappa: float):
    found = replica_capacity(normal(12, 1, 30), kappa=kappa, n_draws=1500)
    assert within(found, "capacity", ball_capacity(0.0, 0.0, kappa))
    assert found.radii.tolist() == found.dimensions.tolist() == [0.0] * 12
    assert "12 of 12 classes have a single point" in found.notes[0]


def test_manifolds_in_orthogonal_spans_have_the_capacity_of_glue():
    x = spheres(8, 20, 40, 0.8, 4)
    mean_field = replica_capacity(x, n_draws=800)
    centered = x - x.mean((0, 1))
    frames = [manifold_frame(m, m.mean(0), 1e-12) for m in centered]
    width = sum(f.shape[1] for f in frames)
    blocks, start = [], 0
    for frame in frames:
        block = torch.zeros(len(frame), width, dtype=WORKING)
        block[:, start : start + frame.shape[1]] = frame
        start += frame.shape[1]
        blocks.append(block)
    glue = capacity(blocks, n_draws=800, seed=5)
    assert abs(glue.capacity - mean_field.capacity) < 4 * math.hypot(glue.capacity_se, mean_field.capacity_se)


@pytest.mark.parametrize("kappa", [0.0, 0.7])
@pytest.mark.parametrize("points", [spheres(3, 6, 12, 1.0, 3)[0], normal(9, 4), segments(3, 1.0)[0]])
def test_every_draw_solves_the_quadratic_programme(points: Tensor, kappa: float):
    everything = torch.cat([points, normal(5, points.shape[1], seed=8)])
    x = points - everything.mean(0)
    frame = manifold_frame(x, x.mean(0), 1e-12)
    plain = reference.frame(points.numpy(), everything.numpy())
    np.testing.assert_allclose((frame @ frame.T).numpy(), plain @ plain.T, rtol=0, atol=1e-12)
    assert frame.shape == plain.shape
    t = normal(25, frame.shape[1], seed=4)
    found = replica_anchors(frame, t, kappa)
    assert bool(found.certified.all())
    for d in range(len(t)):
        s, load = reference.anchor(frame.numpy(), t[d].numpy(), kappa)
        assert float(found.norms2[d]) == pytest.approx(load, abs=1e-6)
        if load == 0 or load > 1e-2:  # a short t - v leaves the programme's own anchor few digits
            np.testing.assert_allclose(found.s[d].numpy(), s[:-1], rtol=0, atol=1e-4)
    alpha, _, radius, _, dimension, _ = manifold_geometry(found, t)
    expected = reference.geometry(frame.numpy(), t.numpy(), kappa)
    assert (1 / alpha, radius, dimension) == pytest.approx(expected, rel=1e-4)


def test_standard_errors_are_the_spread_over_seeds():
    frame = manifold_frame(spheres(2, 15, 20, 1.0, 4)[0], normal(20, seed=3) / 4, 1e-12)
    frame = frame + torch.cat([0.3 * normal(1, frame.shape[1] - 1), torch.zeros(1, 1, dtype=WORKING)], 1)  # off centre
    t = normal(60 * 100, frame.shape[1], seed=6)
    found = replica_anchors(frame, t)
    runs = [
        manifold_geometry(ReplicaAnchors(found.s[r], found.norms2[r], found.certified[r]), t[r])
        for r in (slice(i * 100, (i + 1) * 100) for i in range(60))
    ]
    table = torch.tensor(runs, dtype=WORKING)
    for value, error in ((0, 1), (2, 3), (4, 5)):
        # The spread of 60 values is itself uncertain by 9 %.
        assert 0.65 < float(table[:, error].mean() / table[:, value].std()) < 1.4


@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 10**6), kappa=st.sampled_from([0.0, 0.4]))
def test_laws(seed: int, kappa: float):
    x = normal(3, 6, 9, seed=seed) + normal(3, 1, 9, seed=seed + 1)
    q = torch.linalg.qr(normal(9, 9, seed=seed + 2))[0]
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    wide = torch.cat([x, torch.zeros(3, 6, 4, dtype=WORKING)], 2)
    first = replica_capacity(x, kappa=kappa, n_draws=20, seed=seed)
    same = {
        "rotation": x @ q, "scale": 1e3 * x, "shift": x + normal(9, seed=seed + 3), "sample order": x[:, order],
        "copies": torch.cat([x, x], 1), "silent units": wide,
    }  # fmt: skip
    for what, changed in same.items():
        again = replica_capacity(changed, kappa=kappa, n_draws=20, seed=seed)
        assert again.n_uncertified == 0
        for quantity in EACH:
            torch.testing.assert_close(
                getattr(again, quantity), getattr(first, quantity), rtol=1e-6, atol=1e-8, msg=f"{what}: {quantity}"
            )
        assert again.center_correlation == pytest.approx(first.center_correlation)
    assert replica_capacity(x, kappa=kappa + 0.3, n_draws=20, seed=seed).capacity < first.capacity


def test_manifolds_combine_by_the_mean_of_the_loads():
    sizes = [1, 4, 9]
    x = [normal(m, 12, seed=m) for m in sizes]
    found = replica_capacity(x, n_draws=100)
    assert found.capacity == pytest.approx(1 / float((1 / found.capacities).mean()))
    assert found.radius == pytest.approx(float(found.radii.mean()))
    assert found.dimension == pytest.approx(float(found.dimensions.mean()))
    load_se = found.capacities_se / found.capacities.square()
    assert found.capacity_se == pytest.approx(found.capacity**2 * float(load_se.square().sum().sqrt()) / 3)
    assert found.center_correlation == pytest.approx(reference.center_correlation([m.numpy() for m in x]))


@pytest.mark.parametrize("n_manifolds", [2, 3])
@pytest.mark.parametrize("center_rank", [None, "auto", 0])
def test_two_and_three_classes_work(n_manifolds: int, center_rank: int | str | None):
    found = replica_capacity(spheres(n_manifolds, 10, 20, 0.5, 3), n_draws=50, center_rank=center_rank)
    assert found.center_rank == 0
    assert all(math.isfinite(getattr(found, q)) for q in QUANTITIES)
    assert found.center_correlation == found.residual_correlation
    if n_manifolds == 2:
        assert found.center_correlation == pytest.approx(1.0)
        assert "two classes have opposite centres by construction" in found.notes[0]
        assert any("could be removed" in note for note in found.notes) == (center_rank == "auto")


def test_structure_that_the_centres_share_is_found_and_removed():
    common = normal(20, 2) @ torch.linalg.qr(normal(60, 2, seed=1))[0].T * 20
    x = common[:, None] + normal(20, 1, 60, seed=2) + 0.3 * normal(20, 8, 60, seed=3)
    auto = replica_capacity(x, n_draws=30, center_rank="auto")
    assert auto.center_correlation > 0.5 > 0.2 > auto.residual_correlation
    centers = x.mean(1) - x.mean((0, 1))
    left = [center_correlation(without(centers, shared_directions(centers, k))) for k in range(19)]
    assert auto.center_rank == int(np.argmin(left)) == least_correlated_rank(centers) >= 2
    # By hand: projecting the data off those directions first is the same.
    u = torch.linalg.svd(centers.T)[0][:, :2]
    plain = replica_capacity(x - (x @ u) @ u.T, n_draws=30)
    given_rank = replica_capacity(x, n_draws=30, center_rank=2)
    torch.testing.assert_close(given_rank.capacities, plain.capacities, rtol=1e-8, atol=0)
    assert given_rank.residual_correlation == pytest.approx(plain.center_correlation)


def test_a_class_at_the_global_mean_is_left_out_with_a_note():
    x = normal(3, 4, 6)
    middle = torch.cat([normal(2, 6, seed=1), -normal(2, 6, seed=1)]) + x.mean((0, 1))
    found = replica_capacity([*x, middle], n_draws=40)
    assert found.capacities.isnan().tolist() == [False, False, False, True]
    assert math.isfinite(found.capacity)
    assert math.isfinite(found.center_correlation)
    assert "1 of 4 classes have no centre" in found.notes[0]
    opposite = normal(4, 6)
    nothing = replica_capacity([torch.cat([opposite, -opposite])] * 2, n_draws=40)
    assert all(math.isnan(getattr(nothing, q)) for q in QUANTITIES)


def test_simplices_count_their_own_dimensions_only():
    """M points span M - 1 dimensions around their centre; a spare one would bias what compares directions."""
    x = simplices(4, 5)[0]
    assert manifold_frame(x, x.mean(0), 1e-12).shape == (5, 5)
    assert manifold_frame(x + 1e6, (x + 1e6).mean(0), 1e-7).shape == (5, 5)


def test_devices_agree(device: str):
    x = spheres(3, 8, 12, 0.7, 3)
    here, there = replica_capacity(x, n_draws=20), replica_capacity(x, n_draws=20, device=device)
    torch.testing.assert_close(there.capacities.cpu(), here.capacities, rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappa": -1.0}, "kappa"), ({"n_draws": 1}, "n_draws"), ({"center_rank": 2}, "whole number up to 1"),
        ({"center_rank": "all"}, "center_rank='all'"),
    ],
)  # fmt: skip
def test_bad_options_are_named(options: dict, message: str):
    with pytest.raises(BadInput, match=message):
        replica_capacity(normal(3, 4, 5), **options)


def test_one_class_is_refused():
    with pytest.raises(BadInput, match="one class"):
        replica_capacity(normal(1, 4, 5))
