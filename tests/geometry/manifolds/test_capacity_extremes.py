"""Scales at the ends of the numbers, large offsets, and the precision that points come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from geomfeat.errors import OutOfMemory
from geomfeat.geometry.manifolds import (
    as_manifolds,
    capacity,
    common_draws,
    replica_capacity,
    shuffled_control,
    simulated_capacity,
)
from geomfeat.geometry.manifolds.point_clouds import first_of_copies
from geomfeat.types import Representation
from tests.geometry.clouds import normal, spheres

CLOUD = normal(4, 6, 20) + normal(4, 1, 20, seed=1)
CALLS: dict[str, tuple[Callable[[Tensor], Any], tuple[str, ...]]] = {
    "capacity": (
        lambda x: capacity(x, n_draws=40),
        ("capacity", "dimension", "radius", "utility", "center_alignment", "axis_alignment", "center_axis_alignment"),
    ),
    "centred": (
        lambda x: capacity(x, n_draws=40, center="global", resample=None),
        ("capacity", "dimension", "radius", "utility"),
    ),
    "common draws": (
        lambda x: capacity(x, draws=common_draws(x, n_draws=40), resample=None), ("capacity", "dimension", "radius"),
    ),
    "shuffled": (lambda x: shuffled_control(x, n_draws=40), ("capacity", "dimension", "radius")),
    "replica": (
        lambda x: replica_capacity(x, n_draws=40),
        ("capacity", "radius", "dimension", "center_correlation", "residual_correlation"),
    ),
    "replica, fewer directions": (
        lambda x: replica_capacity(x, n_draws=40, center_rank="auto"), ("capacity", "radius", "dimension"),
    ),
    "simulated": (lambda x: simulated_capacity(x, n_trials=12), ("capacity", "n_half", "rank")),
    "simulated, bias": (lambda x: simulated_capacity(x, n_trials=12, bias=True), ("capacity", "n_half", "rank")),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_no_number_depends_on_the_scale(name: str):
    call, numbers = CALLS[name]
    plain = call(CLOUD)
    for scale in (1e200, 1e-200, 2e307, 1e-300):
        found = call(CLOUD * scale)
        for number in numbers:
            assert getattr(found, number) == pytest.approx(getattr(plain, number), rel=1e-6), (scale, number)
        assert found.notes == plain.notes


def test_lengths_come_back_in_the_units_of_the_points():
    plain = capacity(CLOUD, n_draws=40, resample=None).per_manifold
    for scale in (1e200, 1e-200):
        found = capacity(CLOUD * scale, n_draws=40, resample=None).per_manifold
        torch.testing.assert_close(found.anchor_norm / scale, plain.anchor_norm)
        torch.testing.assert_close(found.axis_ratio, plain.axis_ratio)


@pytest.mark.parametrize("name", ["centred", "replica", "simulated, bias"])
@pytest.mark.parametrize(("offset", "dtype"), [(1e9, torch.float64), (1e3, torch.float32)])
def test_an_offset_is_taken_off_in_the_precision_of_the_data(name: str, offset: float, dtype: torch.dtype):
    call, numbers = CALLS[name]
    # The shift is rounded with the points, so it is taken off again to have the same points without it.
    shifted = (CLOUD + offset).to(dtype)
    plain, found = call(shifted.double() - offset), call(shifted)
    for number in numbers:
        assert getattr(found, number) == pytest.approx(getattr(plain, number), rel=1e-4), number


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_classes_of_rounding_alone_are_points(dtype: torch.dtype):
    """Copies up to the last digit, as batches of other sizes leave them: no radius and no dimension."""
    centers = (100 + 10 * normal(8, 1, 30)).to(dtype)
    last = torch.finfo(dtype).eps * torch.randint(-1, 2, (8, 6, 30), generator=torch.Generator().manual_seed(0))
    jittered = centers * (1 + last).to(dtype)
    found, points = capacity(jittered, n_draws=100, resample=None), capacity(centers, n_draws=100, resample=None)
    assert found.capacity == pytest.approx(points.capacity, rel=1e-4)
    assert found.dimension == pytest.approx(0.0, abs=1e-9)
    mean_field = replica_capacity(jittered, n_draws=100)
    assert mean_field.dimension == mean_field.radius == 0


def test_low_rank_in_single_precision_is_low_rank():
    """A bottleneck of 12 units, computed in float32: its capacity is that of 12 dimensions, whatever follows it."""
    inner, mixing = normal(4, 60, 12), normal(12, 60, seed=1)
    for dtype in (torch.float32, torch.float64):
        wide = inner.to(dtype) @ mixing.to(dtype)
        found = capacity(wide, n_draws=50, resample=None)
        assert found.capacity_floor == 4 / 12
        assert int(found.faces.max()) == 12
        assert simulated_capacity(wide, n_trials=4).rank == 12


def test_rounding_is_that_of_the_precision_the_data_came_in():
    x = normal(2, 3, 40)
    lengths = torch.linalg.vector_norm(x.reshape(6, 40), dim=1)
    for given, eps in (
        (x, 2.0**-52), (x.float(), 2.0**-23), (x.numpy(), 2.0**-52), (x.float().double(), 2.0**-23),
        ([x[0], x[1].float()], 2.0**-23), (x.mul(9).long(), 2.0**-52),
    ):  # fmt: skip
        found = as_manifolds(given)
        expected = torch.linalg.vector_norm(found.x, dim=1)
        torch.testing.assert_close(found.rounding, eps * expected)
    halves = Representation(x.reshape(6, 40).bfloat16(), torch.arange(6) // 3, layer="fc")
    torch.testing.assert_close(
        as_manifolds(halves).rounding / lengths, torch.full((6,), 2.0**-7).double(), rtol=0.01, atol=0
    )
    # What a mean takes off leaves the rounding of the points before it.
    shifted = as_manifolds(x.float() + 1000, center="global")
    torch.testing.assert_close(
        shifted.rounding, torch.full((6,), 1000 * 40**0.5 * 2.0**-23).double(), rtol=0.01, atol=0
    )


def test_copies_are_found_within_their_class_alone():
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0], [2.0, 1.0]], dtype=torch.float64)
    assert first_of_copies(x, torch.tensor([0, 0, 1, 1]))[0].tolist() == [0, 2, 3]
    cloud = spheres(3, 40, 10, 0.5, 4)
    once = as_manifolds(torch.cat([cloud, cloud[:, :7]], 1)).without_copies()
    assert once.sizes == (40, 40, 40)
    torch.testing.assert_close(once.x, cloud.reshape(-1, 10))


def test_what_does_not_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("geomfeat.memory.free_bytes", lambda device="cpu": 10**8)
    assert capacity(CLOUD, n_draws=40).n_draws == 40
    with pytest.raises(OutOfMemory, match="the capacity of 4 classes of 24 points in 20 dimensions with 100000 draws"):
        capacity(CLOUD, n_draws=100_000)


def test_points_without_a_number_never_reach_the_solvers():
    for call, _ in CALLS.values():
        for bad in (float("nan"), float("inf")):
            broken = CLOUD.clone()
            broken[1, 2, 3] = bad
            with pytest.raises(ValueError, match=r"points holds (1 NaN|0 NaN and 1 infinite)"):
                call(broken)
