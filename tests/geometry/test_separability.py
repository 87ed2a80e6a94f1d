"""Linear separability against a linear programme."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from geomfeat.geometry.separability import distinct_dichotomies, margins, separability
from tests.geometry.clouds import normal, signs
from tests.reference import geometry as reference


@settings(deadline=None, max_examples=25)
@given(n_manifolds=st.integers(1, 4), points=st.integers(1, 4), n=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_answers_equal_the_linear_programme(n_manifolds: int, points: int, n: int, seed: int):
    x, y = normal(n_manifolds, points, n, seed=seed), signs(5, n_manifolds, seed=seed)
    owner = torch.arange(n_manifolds).repeat_interleave(points)
    found = separability(x.reshape(-1, n), owner, y)
    margin, certified = margins(x.reshape(-1, n), owner, y)
    assert bool(found.decided.all())
    assert bool(certified.all())
    for row in range(5):
        expected = reference.separable((x * y[row, :, None, None]).reshape(-1, n).numpy())
        assert bool(found.separable[row]) == expected
        assert (float(margin[row]) > 0) == expected


def test_margin_is_the_distance_of_the_hull_from_the_origin():
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    margin, _ = margins(x, torch.zeros(2, dtype=torch.long), torch.ones(1, 1))
    torch.testing.assert_close(margin, torch.tensor([0.5**0.5], dtype=torch.float64))


def test_real_classes_at_the_edge_of_separability():
    features, labels = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(labels == c)[:50] for c in range(10)])
    x, y = torch.as_tensor(features[rows]), signs(6, 10, seed=4)
    found = separability(x, torch.arange(10).repeat_interleave(50), y)
    expected = [reference.separable((x * y[i].repeat_interleave(50)[:, None]).numpy()) for i in range(6)]
    assert found.separable.tolist() == expected
    assert 0 < sum(expected) < 6  # both answers occur


def test_distinct_dichotomies_ignore_a_global_sign_and_keep_the_order():
    y = torch.tensor([[1.0, 1, -1], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [1, 1, -1]])
    rows, counts = distinct_dichotomies(y, 2)
    assert rows.tolist() == [[1, 1, -1], [1, -1, 1]]
    assert counts.tolist() == [3, 1]


def test_points_at_the_origin_ask_for_nothing():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert separability(x, torch.arange(2), torch.ones(1, 2)).separable.tolist() == [True]
    assert separability(x[:1], torch.zeros(1, dtype=torch.long), torch.ones(1, 1)).separable.tolist() == [True]
