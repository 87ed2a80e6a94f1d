"""The span of points, by the precision of their data."""

from __future__ import annotations

import pytest
import torch

from geomfeat.geometry.manifolds.cones import span
from geomfeat.geometry.manifolds.cones.span import in_span
from geomfeat.numerics import WORKING
from tests.geometry.clouds import normal

EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(("k", "n", "rank"), [(200, 30, 7), (40, 30, 30), (25, 60, 9), (20, 60, 20), (5, 3, 1)])
def test_rank_of_products_in_their_own_precision(k: int, n: int, rank: int, dtype: torch.dtype):
    x = (normal(k, rank, seed=k).to(dtype) @ normal(rank, n, seed=n).to(dtype)).to(WORKING)
    rounding = torch.linalg.vector_norm(x, dim=1) * EPS[dtype]
    found = in_span(x, rounding)
    assert found.rank == rank
    # Inner products are those of the points, and directions see in the span what they see of the points.
    torch.testing.assert_close(
        found.x @ found.x.T, x @ x.T, rtol=0, atol=20 * EPS[dtype] * float((x @ x.T).abs().max())
    )
    t = normal(6, n, seed=9)
    torch.testing.assert_close(
        found.coordinates(t) @ found.x.T, t @ x.T, rtol=0, atol=50 * EPS[dtype] * float((t @ x.T).abs().max())
    )


def test_points_that_fill_their_coordinates_are_left_as_they_are():
    x = normal(50, 8)
    found = in_span(x, 1e-16 * torch.ones(50, dtype=WORKING))
    assert torch.equal(found.x, x)
    assert found.basis is None
    assert found.units is None


def test_dead_units_go_and_points_of_any_length_count():
    x = torch.cat([normal(20, 4) * torch.logspace(-120, 120, 20, dtype=WORKING)[:, None], torch.zeros(20, 3)], 1)
    found = in_span(x, torch.linalg.vector_norm(x, dim=1) * EPS[torch.float64])
    assert found.rank == 4
    assert found.units is not None
    assert found.units.tolist() == [0, 1, 2, 3]


def test_directions_just_above_rounding_are_kept():
    x = normal(300, 6)
    x[:, 5] *= 1e-5
    assert in_span(x, torch.linalg.vector_norm(x, dim=1) * EPS[torch.float32]).rank == 6
    x[:, 5] *= 1e-4
    assert in_span(x, torch.linalg.vector_norm(x, dim=1) * EPS[torch.float32]).rank == 5
    assert in_span(x, torch.linalg.vector_norm(x, dim=1) * EPS[torch.float64]).rank == 6


def test_nothing_but_the_origin():
    found = in_span(torch.zeros(3, 2, dtype=WORKING), torch.zeros(3, dtype=WORKING))
    assert found.rank == 0
    assert found.coordinates(normal(4, 2)).shape == (4, found.x.shape[1])


@pytest.mark.parametrize("rank", [1, 9, 24, 31])
def test_the_span_of_many_points_takes_no_decomposition_of_all(rank: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(span, "_clear_span", lambda *_: pytest.fail("the Gram matrix of all points was decomposed"))
    x = normal(300, rank, seed=rank) @ normal(rank, 32, seed=32)
    found = in_span(x, torch.linalg.vector_norm(x, dim=1) * EPS[torch.float64])
    assert found.rank == rank
    torch.testing.assert_close(found.x @ found.x.T, x @ x.T, rtol=0, atol=1e-12 * float((x @ x.T).abs().max()))
    t = normal(6, 32, seed=9)
    torch.testing.assert_close(
        found.coordinates(t) @ found.x.T, t @ x.T, rtol=0, atol=1e-12 * float((t @ x.T).abs().max())
    )


@pytest.mark.parametrize("rows", [1, 300])
def test_a_direction_that_few_or_all_points_have_a_little_of_is_not_missed(rows: int):
    x = normal(300, 9, seed=9) @ normal(9, 32, seed=32)
    x[:rows] += 1e-9 * normal(rows, 1, seed=3) * normal(1, 32, seed=4)
    assert in_span(x, torch.linalg.vector_norm(x, dim=1) * EPS[torch.float64]).rank == 10


def rounded(k: int, n: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of this rank but for float32's rounding, whose first coordinates are equal, and that rounding."""
    x = normal(k, rank, seed=k) @ normal(rank, n, seed=n)
    x[:, 1] = x[:, 0]
    x = (x * (1 + 2.0**-25 * normal(k, n, seed=1))).contiguous()
    return x, torch.linalg.vector_norm(x, dim=1) * EPS[torch.float32]


@pytest.mark.parametrize("rank", [1, 9, 25, 31])
def test_a_span_that_parts_from_rounding_is_that_of_the_singular_vectors(rank: int, monkeypatch: pytest.MonkeyPatch):
    x, rounding = rounded(120, 32, rank)
    unit = x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
    vh = torch.linalg.svd(unit, full_matrices=False)[2][:rank]
    monkeypatch.setattr(torch.linalg, "svd", lambda *_, **__: pytest.fail("a decomposition that was not needed"))
    found = in_span(x, rounding)
    assert found.rank == rank
    assert found.basis is not None
    torch.testing.assert_close(found.basis @ found.basis.T, vh.T @ vh, rtol=0, atol=1e-11)
    torch.testing.assert_close(found.x @ found.basis.T, x @ vh.T @ vh, rtol=0, atol=1e-11 * float(x.abs().max()))


def test_small_directions_far_above_rounding_are_left_as_they_are_without_singular_vectors(
    monkeypatch: pytest.MonkeyPatch,
):
    x = normal(120, 32)
    x[:, 3] = x[:, 2] + 1e-5 * x[:, 3]  # less than a Gram matrix shows for certain
    monkeypatch.setattr(torch.linalg, "svd", lambda *_, **__: pytest.fail("a decomposition that was not needed"))
    found = in_span(x, torch.linalg.vector_norm(x, dim=1) * EPS[torch.float32])
    assert found.basis is None
    assert torch.equal(found.x, x)


def test_singular_values_on_both_sides_of_rounding_without_a_gap_are_counted_by_their_decomposition():
    x = normal(120, 32) * torch.logspace(0, -12, 32, dtype=WORKING)
    rounding = torch.linalg.vector_norm(x, dim=1) * EPS[torch.float32]
    lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    cut = span.spread_of_rounding(rounding / lengths[:, 0], 32)
    size, vh = torch.linalg.svd(x / lengths, full_matrices=False)[1:]
    found = in_span(x, rounding)
    assert found.rank == int((size > cut).sum()) < 31
    assert found.basis is not None
    torch.testing.assert_close(found.basis @ found.basis.T, vh[: found.rank].T @ vh[: found.rank], rtol=0, atol=1e-6)
