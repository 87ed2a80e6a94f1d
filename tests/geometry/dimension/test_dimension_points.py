"""What every function of points takes, and what it refuses: the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from geomfeat import geometry
from geomfeat.errors import BadInput
from geomfeat.types import Representation

ONE = {
    name: getattr(geometry, name)
    for name in (
        "participation_ratio", "participation_ratio_wishart", "participation_ratio_unbiased", "effective_rank",
        "stable_rank", "rankme", "power_law", "covariance_spectrum", "reduced", "two_nn", "mle_dimension", "gride",
        "dimension_curve", "correlation_dimension", "local_dimension",
    )
} | {
    "components_for_variance": partial(geometry.components_for_variance, share=0.9),
    "correlation_integral": partial(geometry.correlation_integral, radii=[1.0, 2.0]),
    "nearest_neighbours": partial(geometry.nearest_neighbours, k=3),
}  # fmt: skip
TWO = {
    name: getattr(geometry, name)
    for name in (
        "canonical_correlations", "cca_mean", "cca_mean_squared", "svcca", "pwcca", "shape_distance", "shape_angle",
        "procrustes_distance", "linear_regression_r2", "linear_predictivity", "mutual_knn", "neighbour_jaccard",
    )
}  # fmt: skip
WHOLE = torch.randint(-9, 10, (60, 6), generator=torch.Generator().manual_seed(0))
X, Y = WHOLE.double(), WHOLE[:, :4].double().tanh().flip(0)
REFUSED = {
    "1-d": (X[:, 0], r"x\[:, None\]"),
    "3-d": (X[None], "shape"),
    "no samples": (X[:0], "shape"),
    "no features": (X[:, :0], "shape"),
    "NaN": (X.index_fill(0, torch.tensor(3), torch.nan), "NaN"),
    "infinite": (X.index_fill(0, torch.tensor(3), torch.inf), "infinite"),
    "words": ([["a", "b"]], "numeric"),
    "complex": (torch.complex(X, X), "real"),
}


def numbers(found: Any) -> list[Any]:
    parts = astuple(found) if is_dataclass(found) else (found,)
    return [part.tolist() if isinstance(part, torch.Tensor) else part for part in parts]


@pytest.mark.parametrize(
    "given",
    [X.numpy(), X.tolist(), Representation(X), WHOLE, X.clone().requires_grad_()],
    ids=["numpy", "list", "Representation", "whole numbers", "with a gradient"],
)
def test_points_come_in_any_form(given: Any) -> None:
    for name, function in ONE.items():
        np.testing.assert_equal(numbers(function(given)), numbers(function(X)), err_msg=name)
    for name, function in TWO.items():
        np.testing.assert_equal(numbers(function(given, Y.numpy())), numbers(function(X, Y)), err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    half = X.to(dtype)  # small whole numbers are exact
    for name, function in TWO.items():
        np.testing.assert_equal(numbers(function(half, Y)), numbers(function(X.float(), Y)), err_msg=name)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("function", ONE.values(), ids=ONE)
def test_what_is_no_points_is_refused(function: Callable[..., Any], name: str) -> None:
    given, message = REFUSED[name]
    with pytest.raises(BadInput, match=message):
        function(given)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("function", TWO.values(), ids=TWO)
def test_what_is_no_pair_of_points_is_refused(function: Callable[..., Any], name: str) -> None:
    given, message = REFUSED[name]
    with pytest.raises(BadInput, match=f"a .*{message}"):
        function(given, Y)
    with pytest.raises(BadInput, match=f"b .*{message}"):
        function(Y, given)
    with pytest.raises(BadInput, match="a has 60 samples, b has 59"):
        function(X, Y[1:])


@pytest.mark.parametrize("trials", [torch.ones(3, 5), torch.full((2, 5, 3), torch.nan), torch.ones(2, 5, 0)], ids=str)
def test_what_is_no_trials_is_refused(trials: torch.Tensor) -> None:
    with pytest.raises(BadInput, match=r"trials|NaN"):
        geometry.participation_ratio_of_trials(trials)


def test_trials_come_as_numpy_too() -> None:
    trials = torch.stack([X, X.flip(1)])
    assert geometry.participation_ratio_of_trials(trials.numpy()) == geometry.participation_ratio_of_trials(trials)
