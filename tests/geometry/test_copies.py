"""Copies of samples: equal rows, near-copies within rounding, chains of them, against brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomfeat.geometry.copies import copies_of, united
from geomfeat.geometry.distinct import known_points
from geomfeat.types import as_layer
from tests.geometry.clouds import normal


def brute_force(x: torch.Tensor) -> list[int]:
    points = known_points(as_layer(x))
    work = points.x.double()
    distance = torch.linalg.vector_norm(work[:, None] - work[None], dim=2)
    near = distance <= torch.maximum(points.rounding[:, None], points.rounding[None])
    parent = list(range(len(x)))
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
