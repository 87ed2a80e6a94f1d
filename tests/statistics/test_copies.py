"""Copies of samples: equal rows, near-copies within rounding, chains of them, against brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.statistics.copies import copies_of, first_of_each, united
from geomfeat.statistics.distinct_points import equal_rows, known_points
from geomfeat.types import as_layer
from tests.geometry.clouds import normal


def brute_force(*layers: torch.Tensor) -> list[int]:
    near = torch.ones(len(layers[0]), len(layers[0]), dtype=torch.bool)
    for x in layers:
        points = known_points(as_layer(x))
        work = points.x.double()
        distance = torch.linalg.vector_norm(work[:, None] - work[None], dim=2)
        near &= distance <= torch.maximum(points.rounding[:, None], points.rounding[None])
    parent = list(range(len(near)))
    for i, j in near.nonzero().tolist():
        old, new = max(parent[i], parent[j]), min(parent[i], parent[j])
        parent = [new if p == old else p for p in parent]
    numbers = {p: k for k, p in enumerate(dict.fromkeys(parent))}
    return [numbers[p] for p in parent]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.sampled_from([torch.float32, torch.float64]), st.data())
def test_copies_within_rounding_are_those_of_brute_force(rows: list[int], dtype: torch.dtype, data: st.DataObject):
    x = normal(6, 7)[rows]
    wobble = data.draw(st.sampled_from([0.0, 0.3, 3.0, 30.0, 1e4]))
    x = (x * (1 + wobble * torch.finfo(dtype).eps * normal(len(rows), 7, seed=1))).to(dtype)
    assert copies_of(x).tolist() == brute_force(x)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_rounding_of_another_batch_size_makes_no_new_sample(offset: float):
    x = (normal(50, 20) + offset).float()
    again = torch.nextafter(x, torch.full_like(x, torch.inf))
    assert copies_of(torch.cat([x, again])).tolist() == 2 * list(range(50))


def test_samples_that_differ_are_no_copies(device: str):
    x = normal(300, 3).to(device)
    assert copies_of(x).tolist() == list(range(300))
    assert copies_of(torch.zeros(4, 2, device=device)).tolist() == [0] * 4


def test_numberings_are_united_through_chains():
    assert united(torch.tensor([0, 1, 2, 3]), torch.tensor([4, 4, 5, 6]), torch.tensor([1, 2, 2, 3])).tolist() == [
        0, 0, 0, 1
    ]  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=20), st.lists(st.integers(0, 4), min_size=20, max_size=20))
def test_copies_are_the_same_in_all_layers(first: list[int], second: list[int]) -> None:
    a, b = normal(5, 3)[first], normal(5, 40, seed=1)[second[: len(first)]].float()
    assert copies_of(a, b).tolist() == copies_of(b, a).tolist() == brute_force(a, b)


def test_equal_rows_of_one_layer_alone_are_no_copies(device: str) -> None:
    one_hot, dead = torch.eye(4).repeat(50, 1).to(device), torch.zeros(200, 3, device=device)
    features = normal(200, 6).to(device)
    assert copies_of(one_hot, features).tolist() == list(range(200)) == copies_of(dead, features, one_hot).tolist()
    assert copies_of(one_hot, dead).tolist() == [0, 1, 2, 3] * 50


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1.0, 1e30, 1e200])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_size_and_offset_hide_no_copies_and_make_none(scale: float, offset: float) -> None:
    x = (normal(40, 9) + offset) * scale
    assert copies_of(x, normal(40, 2)).tolist() == list(range(40))
    twice = torch.cat([x, x])
    assert copies_of(twice, torch.cat([normal(40, 2)] * 2)).tolist() == 2 * list(range(40))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_wide_features_of_every_precision_are_distinguished(dtype: torch.dtype) -> None:
    x = normal(400, 300).to(dtype)
    assert len(copies_of(x).unique()) == 400
    assert copies_of(torch.cat([x, x[7:9]])).tolist()[400:] == [7, 8]


def test_samples_scatter_by_less_than_rounding_of_their_offset() -> None:
    x = normal(30, 50) * 1e-9 + 1.0
    assert copies_of(x.float()).tolist() == [0] * 30
    assert len(copies_of(x).unique()) == 30


def test_the_first_of_each_number_is_kept() -> None:
    assert first_of_each(torch.tensor([0, 0, 1, 2, 1])).tolist() == [0, 2, 3]
    assert equal_rows(torch.tensor([[0.0], [-0.0], [1.0]]), torch.tensor([[2.0], [2.0], [2.0]])).tolist() == [0, 0, 2]
