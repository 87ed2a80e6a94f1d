"""Gram matrices against loops over pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import label_gram, linear_gram, one_hot, rbf_gram
from geomfeat.geometry.similarity.gram import NoWidth
from geomfeat.numerics import stream, tolerance
from geomfeat.types import Representation
from tests.reference.kernels import gram_by_loop, rbf_by_loop

X = torch.randn(9, 4, generator=stream(0, "gram"), dtype=torch.float64)


def test_linear_and_gaussian_equal_the_loops(device: str) -> None:
    x = X.to(device)
    torch.testing.assert_close(linear_gram(x).cpu(), torch.from_numpy(gram_by_loop(X.numpy())), **tolerance())
    for fraction in (0.3, 1.0):
        expected = torch.from_numpy(rbf_by_loop(X.numpy(), fraction))
        torch.testing.assert_close(rbf_gram(x, fraction).cpu(), expected, **tolerance())


def test_the_gaussian_kernel_keeps_digits_far_from_the_origin() -> None:
    torch.testing.assert_close(rbf_gram(X + 1e6), rbf_gram(X), rtol=1e-8, atol=0)


def test_single_precision_is_widened() -> None:
    assert linear_gram(X.float()).dtype == torch.float64


def test_labels() -> None:
    labels = torch.tensor([5, 2, 5, -1])
    expected = np.equal.outer(labels.numpy(), labels.numpy()).astype(float)
    assert label_gram(labels).tolist() == expected.tolist()
    assert (one_hot(labels) @ one_hot(labels).T).tolist() == expected.tolist()


def test_a_gaussian_kernel_without_width_is_refused() -> None:
    with pytest.raises(BadInput, match="median distance"):
        rbf_gram(torch.ones(5, 2))
    with pytest.raises(BadInput, match="bandwidth"):
        rbf_gram(X, 0.0)


@pytest.mark.parametrize("function", [linear_gram, rbf_gram])
def test_features_come_in_any_form(function) -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for given in (x.numpy(), x.tolist(), Representation(x)):
        assert torch.equal(function(given), function(x))
    for wrong, message in ((x[:, 0], "shape"), (x * torch.nan, "NaN"), (x[:0], "shape")):
        with pytest.raises(BadInput, match=message):
            function(wrong)


@pytest.mark.parametrize("function", [label_gram, one_hot])
def test_labels_come_in_any_form(function) -> None:
    labels = torch.tensor([3, 3, 7])
    for given in (labels.numpy(), labels.tolist()):
        assert torch.equal(function(given), function(labels))
    for wrong, words in ((labels[None], "one class per sample"), (labels[:0], "labels are empty")):
        with pytest.raises(BadInput, match=words):
            function(wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_gives_a_gaussian_kernel_no_width(dtype: torch.dtype) -> None:
    noise = torch.randint(0, 2, (9, 3), generator=torch.Generator().manual_seed(0)) * torch.finfo(dtype).eps
    with pytest.raises(NoWidth, match="median distance"):
        rbf_gram((1 + noise.double()).to(dtype))
