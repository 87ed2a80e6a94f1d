"""Forms of labelled points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import as_manifolds
from geomfeat.types import Representation


def test_labels_number_manifolds_in_sorted_order():
    points = torch.arange(8.0).reshape(4, 2)
    found = as_manifolds(points, np.array(["b", "a", "b", "c"]))
    assert found.owner.tolist() == [1, 0, 1, 2]
    assert found.sizes == (1, 2, 1)
    assert as_manifolds(Representation(points, torch.tensor([5, 5, 2, 5]))).owner.tolist() == [1, 1, 0, 1]


def test_stacked_and_listed_points_own_themselves():
    assert as_manifolds(np.zeros((2, 3, 4))).owner.tolist() == [0, 0, 0, 1, 1, 1]
    assert as_manifolds([np.zeros((1, 4)), np.zeros((2, 4))]).sizes == (1, 2)


def test_centring_takes_the_mean_of_all_points_off_and_cleans_its_rounding():
    points = torch.tensor([[[0.1, 0.7], [0.3, 0.9]], [[0.2, 0.8], [0.2, 0.8]]])
    found = as_manifolds(points, center="global")
    torch.testing.assert_close(found.x.sum(0), torch.zeros(2, dtype=torch.float64))
    same = as_manifolds(torch.full((2, 3, 2), 0.1), center="global")
    assert not bool(same.x.any())


def test_input_is_not_changed():
    points = torch.ones(2, 3, 4, dtype=torch.float64)
    as_manifolds(points, center="global")
    assert bool((points == 1).all())


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (torch.ones(3, 4, 5), [0, 1, 2], "must be \\(samples, features\\)"),
        ([], None, "got shapes \\[\\]"),
        ([torch.ones(0, 3)], None, "got shapes"),
        ("words", None, "numeric array"),
        (torch.ones(3), None, "without labels"),
    ],
)
def test_what_is_not_points_is_named(points: object, labels: object, message: str):
    with pytest.raises(BadInput, match=message):
        as_manifolds(points, labels)
