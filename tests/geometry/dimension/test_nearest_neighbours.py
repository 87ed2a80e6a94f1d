"""Nearest neighbours against all distances, on data that are easy and hard for products."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension import (
    _nearest_neighbours as neighbours,
    _neighbour_candidates as candidates,
    nearest_neighbours,
)
from geomfeat.geometry.dimension._nearest_neighbours import by_blocks, by_differences, by_products, unit_scale
from geomfeat.statistics.distinct_points import distinct_points
from tests.geometry.clouds import normal
from tests.reference import dimension as reference


def all_distances(x: torch.Tensor, k: int) -> torch.Tensor:
    distance = torch.linalg.vector_norm(x[:, None] - x[None], dim=2).fill_diagonal_(torch.inf)
    return distance.sort(dim=1).values[:, :k]


def integers(n: int, d: int) -> torch.Tensor:
    return torch.randint(0, 3, (n, d), generator=torch.Generator().manual_seed(1)).double()


CLOUDS = {
    "generic": normal(300, 20),
    "wide": normal(90, 400),
    "a plane in many units": normal(400, 2) @ normal(2, 60, seed=1),
    "far from the origin": normal(300, 15) + 1e6,
    "tight cluster": torch.cat([1e-9 * normal(60, 12), 10 + normal(200, 12, seed=1)]),
    "outlier": torch.cat([normal(200, 12), torch.full((1, 12), 1e7, dtype=torch.float64)]),
    "ties": integers(300, 10),
    "copies": normal(40, 12).repeat(4, 1),
    "tiny": 1e-200 * normal(120, 12),
    "all scales": normal(150, 12) * torch.logspace(-12, 0, 150, dtype=torch.float64)[:, None],
}


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("method", [by_products, by_differences, by_blocks])
def test_distances_are_those_of_all_pairs(name: str, method, device: str):
    x, unit = unit_scale(CLOUDS[name])
    for k in (1, 2, 17):
        given_ = x.to(device) if method is by_blocks else x.numpy()
        distance, index = (torch.as_tensor(a).cpu() for a in method(given_, k))
        # Rounded sums of squares: a dozen or more terms.
        torch.testing.assert_close(distance, all_distances(x, k), rtol=1e-12, atol=0)
        to = x[index.long()] - x[:, None]
        torch.testing.assert_close(torch.linalg.vector_norm(to, dim=2), distance, rtol=1e-12, atol=0)
        assert not bool((index == torch.arange(len(x))[:, None]).any())
    assert float(x.abs().max() * unit) == float(CLOUDS[name].abs().max())


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 60), d=st.integers(1, 20), seed=st.integers(0, 10**6), data=st.data())
def test_small_sets_equal_loops(n: int, d: int, seed: int, data: st.DataObject):
    k = data.draw(st.integers(1, n - 1))
    x = normal(n, d, seed=seed)
    expected = [reference.neighbour_distances(x.numpy(), i)[:k] for i in range(n)]
    np.testing.assert_allclose(nearest_neighbours(x, k).distance.numpy(), expected, rtol=1e-12)
    work, unit = unit_scale(x)
    np.testing.assert_allclose(by_products(work.numpy(), k)[0] * unit, expected, rtol=1e-12)


def test_tiles_and_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch):
    x = normal(1300, 12).numpy()  # more than one tile, and more than one block of rows
    whole = by_products(x, 5)
    monkeypatch.setattr(candidates, "ROWS", 100)
    torch.set_num_threads(2)
    try:
        again = by_products(x, 5)
    finally:
        torch.set_num_threads(1)
    assert np.array_equal(whole[0], again[0])
    assert np.array_equal(whole[1], again[1])
    exact = all_distances(torch.as_tensor(x[:300]), 1)
    assert (whole[0][:300, 0] <= exact[:, 0].numpy() + 1e-12).all()


def test_what_single_precision_cannot_prove_is_not_taken_from_it():
    # Neighbours at 1e-6 of the norms: products in single precision are wrong by more than the distances differ.
    line = torch.linspace(0, 1e-6, 200, dtype=torch.float64)[:, None] * normal(1, 30) + normal(2, 30, seed=3)[:1]
    x = unit_scale(torch.cat([line, -line]))[0].numpy()
    points = candidates.padded(x, np.float32)
    rows = np.arange(len(x))
    lists = candidates.lists_of_all(points, 8)
    sure = neighbours._ranked(x, points, rows, lists, 2)[2]
    assert not sure.any()
    np.testing.assert_allclose(by_products(x, 2)[0], all_distances(torch.as_tensor(x), 2).numpy(), rtol=1e-12)


@pytest.mark.parametrize("k", [0, 5, 9])
def test_more_neighbours_than_there_are_is_bad_input(k: int):
    with pytest.raises(BadInput, match=f"k={k} neighbours of 5 points"):
        nearest_neighbours(normal(5, 2), k)


def test_distinct_points_are_the_first_of_each_kind():
    x = integers(200, 3)
    x[x == 0] *= -1.0  # some zeros become -0
    seen, expected = set(), []
    for i, row in enumerate(x.tolist()):
        if tuple(v + 0.0 for v in row) not in seen:
            expected.append(i)
        seen.add(tuple(v + 0.0 for v in row))
    assert distinct_points(x).tolist() == expected
    assert distinct_points(normal(50, 4).float()).tolist() == list(range(50))


@pytest.mark.parametrize("size", [14, 20])
def test_lists_that_a_sample_starts_too_high_are_done_again(size: int):
    """Points of the sample stand in tight groups: each sees so many near ones there that it expects far more."""
    n, k = candidates.MORE * candidates.SAMPLE + 40, 17
    x = 3 * normal(n, 12)
    sample = np.linspace(0, n - 1, candidates.SAMPLE).astype(int)
    for group in range(0, len(sample), size):
        rows = sample[group : group + size]
        x[rows] = x[rows[0]] + 1e-3 * normal(len(rows), 12, seed=group)
    work = unit_scale(x)[0]
    points = candidates.padded(work.numpy(), np.float32)
    ended = (candidates.lists_of_all(points, k).candidates >= 0).sum(1)
    assert (ended[sample] < k).mean() > 0.9  # the guess is what this test says it is
    assert (ended < k).mean() < 0.2
    distance, _ = by_products(work.numpy(), k)
    truth = torch.cdist(work, work, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    torch.testing.assert_close(torch.as_tensor(distance), truth.topk(k, largest=False).values, rtol=1e-12, atol=0)
