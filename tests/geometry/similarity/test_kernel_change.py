"""Movement of kernels and features: known answers, definitions, resolution at the lazy end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import (
    kernel_alignment,
    kernel_angle,
    kernel_distance,
    kernel_distance_centred,
    kernel_relative_change,
    linear_gram,
    relative_change,
)
from geomfeat.numerics import stream
from geomfeat.statistics.group_errors import values_alone
from geomfeat.types import Kernel, Representation
from tests.reference.kernels import cka_by_definition, jackknife_by_loop

MOVEMENTS = (kernel_relative_change, kernel_distance, kernel_distance_centred)


def draw(n: int, d: int, name: str) -> Tensor:
    return torch.randn(n, d, generator=stream(0, name), dtype=torch.float64)


K0 = linear_gram(draw(10, 30, "k0"))
K = linear_gram(draw(10, 30, "k0") + 0.5 * draw(10, 30, "step"))


def by_definition(name: str, k: np.ndarray, k0: np.ndarray) -> float:
    if name == "kernel_relative_change":
        return float(np.sqrt(((k - k0) ** 2).sum() / (k0**2).sum()))
    if name == "kernel_distance":
        return float(1 - (k * k0).sum() / np.sqrt((k**2).sum() * (k0**2).sum()))
    return 1 - cka_by_definition(k, k0, "biased")


@pytest.mark.parametrize("movement", MOVEMENTS, ids=lambda f: f.__name__)
def test_values_and_errors_equal_the_definitions(movement, device: str) -> None:
    got = movement(Kernel(K.to(device)), K0.to(device))
    k, k0 = K.numpy(), K0.numpy()
    assert got.value == pytest.approx(by_definition(movement.__name__, k, k0), rel=1e-9)
    expected = jackknife_by_loop(
        lambda rows: by_definition(movement.__name__, k[np.ix_(rows, rows)], k0[np.ix_(rows, rows)]), 10
    )
    assert got.stderr == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("movement", MOVEMENTS, ids=lambda f: f.__name__)
def test_an_unmoved_kernel_moved_by_nothing(movement) -> None:
    assert movement(K0, K0).value == 0
    assert movement(K0, K0).stderr == pytest.approx(0, abs=1e-12)


def test_a_scaled_kernel_moved_but_did_not_turn() -> None:
    assert kernel_relative_change(3 * K0, K0).value == pytest.approx(2, rel=1e-12)
    assert kernel_distance(3 * K0, K0).value < 1e-30
    assert kernel_distance_centred(3 * K0 + 1, K0).value < 1e-28
    assert kernel_distance(3 * K0 + 1, K0).value > 1e-4


def test_orthogonal_kernels_are_one_apart() -> None:
    a, b = torch.zeros(2, 6, 6, dtype=torch.float64)
    a[:3, :3], b[3:, 3:] = 1, 1
    assert kernel_distance(a, b).value == pytest.approx(1)


def test_the_lazy_end_is_resolved_to_the_square_of_the_step() -> None:
    # The plain formula 1 - cos loses this below 1e-16.
    step = linear_gram(draw(10, 30, "other"))
    step = step - (step * K0).sum() / (K0 * K0).sum() * K0
    for size in (1e-3, 1e-6, 1e-10):
        moved = K0 + size * step
        expected = 0.5 * size**2 * float(step.norm() / K0.norm()) ** 2
        assert kernel_distance(moved, K0).value == pytest.approx(expected, rel=1e-3)
        assert kernel_relative_change(moved, K0).value == pytest.approx((2 * expected) ** 0.5, rel=1e-3)


def test_features_move_relative_to_their_size(device: str) -> None:
    old, step = draw(8, 5, "old").to(device), draw(8, 5, "new").to(device)
    got = relative_change(old + step, old)
    assert got.value == pytest.approx(float(step.norm() / old.norm()), rel=1e-12)

    def definition(rows: list[int]) -> float:
        return float((step[rows] ** 2).sum() / (old[rows] ** 2).sum()) ** 0.5

    assert got.stderr == pytest.approx(jackknife_by_loop(definition, 8), rel=1e-9)
    assert relative_change(-old, old).value == pytest.approx(2)
    assert relative_change(old, old).value == 0


@pytest.mark.parametrize("movement", MOVEMENTS, ids=lambda f: f.__name__)
def test_bad_kernels_are_refused(movement) -> None:
    with pytest.raises(BadInput, match="same samples"):
        movement(K, K0[:5, :5])
    with pytest.raises(BadInput, match=r"zero everywhere|constant"):
        movement(K, 0 * K0)
    with pytest.raises(BadInput, match="not symmetric"):
        movement(torch.randn(4, 4, generator=stream(0, "asymmetric")), torch.eye(4))


def test_a_kernel_that_vanished_moved_by_its_size_but_has_no_direction() -> None:
    assert kernel_relative_change(0 * K0, K0).value == 1
    with pytest.raises(BadInput, match="no direction"):
        kernel_distance(0 * K0, K0)


def test_bad_features_are_refused() -> None:
    with pytest.raises(BadInput, match="have no difference"):
        relative_change(torch.ones(4, 2), torch.ones(4, 3))
    with pytest.raises(BadInput, match="dead layer"):
        relative_change(torch.ones(4, 2), torch.zeros(4, 2))


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_kernels_whose_squares_are_out_of_range(size: float) -> None:
    draws = torch.Generator().manual_seed(0)
    x, y = (torch.randn(8, 3, generator=draws, dtype=torch.float64) for _ in range(2))
    old, new = x @ x.T, x @ x.T + 0.1 * y @ y.T
    assert kernel_distance(size * old, old).value < 1e-30
    for function in (kernel_distance, kernel_angle, kernel_relative_change, kernel_distance_centred):
        truth, found = function(new, old), function(size * new, size * old)
        assert found.value == pytest.approx(truth.value, rel=1e-9)
        assert found.stderr == pytest.approx(truth.stderr, rel=1e-6)
    assert kernel_alignment(size * new, old) == pytest.approx(kernel_alignment(new, old), rel=1e-9)


def test_features_come_in_any_form() -> None:
    old = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for given in (old.numpy(), old.tolist(), Representation(old)):
        assert relative_change(given, old).value == 0
        assert relative_change(2 * old, given).value == 1
    with pytest.raises(BadInput, match="NaN"):
        relative_change(old * torch.nan, old)


@pytest.mark.parametrize("movement", [kernel_relative_change, kernel_distance, kernel_angle, relative_change])
def test_where_errors_are_not_wanted_the_value_stays(movement) -> None:
    whole = movement(K, K0)
    with values_alone():
        alone = movement(K, K0)
    assert whole.stderr > 0
    assert (alone.value, alone.stderr) == (whole.value, None)
