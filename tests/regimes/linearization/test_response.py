"""Gradient flow of the linear model: closed forms, the two solvers against each other, and what cannot be reached."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.errors import BadInput
from geomfeat.numerics import stream
from geomfeat.regimes.linearization.response import respond, respond_by_products
from tests.reference.demand import displacement


def problem(m: int, p: int, seed: int = 0, decay: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    g = stream(seed, "problem")
    scale = torch.logspace(0, -decay, p, dtype=torch.float64)
    return torch.randn(m, p, generator=g, dtype=torch.float64) * scale, torch.randn(m, generator=g, dtype=torch.float64)


def test_one_eigenvalue_has_a_closed_form() -> None:
    b = torch.tensor([3.0, -4.0], dtype=torch.float64)
    (found,) = respond(5.0 * torch.eye(2, dtype=torch.float64), b, [0.01])
    assert found.time == pytest.approx(-math.log(0.01) / (2 * 5.0), rel=1e-9)
    torch.testing.assert_close(found.coefficients, 0.9 * b / 5.0, rtol=1e-9, atol=0)


def test_two_eigenvalues_leave_the_share_asked_for() -> None:
    w, b = torch.tensor([4.0, 0.1], dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64)
    (found,) = respond(torch.diag(w), b, [0.05])
    left = (torch.exp(-w * found.time) * b).square().sum() / b.square().sum()
    assert float(left) == pytest.approx(0.05, rel=1e-9)
    assert found.left == pytest.approx(0.05, rel=1e-9)


def test_movement_is_that_of_stepped_gradient_flow() -> None:
    jacobian, change = problem(6, 12, decay=0.5)
    (found,) = respond(jacobian @ jacobian.mT, change, [0.02])
    stepped = displacement(jacobian, change, 0.02)
    assert float((jacobian.mT @ found.coefficients - stepped).norm() / stepped.norm()) < 2e-3


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), m=st.integers(2, 80), share=st.sampled_from([0.5, 0.05, 0.01, 0.002]))
def test_products_agree_with_the_eigendecomposition(seed: int, m: int, share: float) -> None:
    jacobian, change = problem(m, 200, seed)
    kernel = jacobian @ jacobian.mT
    (exact,), (krylov,) = respond(kernel, change, [share]), respond_by_products(lambda v: kernel @ v, change, [share])

    def size(a: torch.Tensor) -> float:
        return float((jacobian.mT @ a).norm())

    assert size(krylov.coefficients) == pytest.approx(size(exact.coefficients), rel=2e-3)
    assert krylov.left == pytest.approx(exact.left, rel=1e-6)


def test_a_null_direction_is_reported_and_the_rest_is_learned() -> None:
    kernel = torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64))
    change = torch.tensor([3.0, 4.0], dtype=torch.float64)
    for found in (*respond(kernel, change), *respond_by_products(lambda v: kernel @ v, change)):
        assert found.unreachable == pytest.approx(16 / 25, rel=1e-9)
        assert float(found.coefficients[0]) == pytest.approx(0.9 * 3.0 / 2.0, rel=1e-9)


def test_no_change_asks_for_no_movement() -> None:
    zero = torch.zeros(3, dtype=torch.float64)
    kernel = torch.eye(3, dtype=torch.float64)
    assert float(respond(kernel, zero)[0].coefficients.norm()) == 0.0
    assert float(respond_by_products(lambda v: kernel @ v, zero)[0].coefficients.norm()) == 0.0


def test_several_shares_are_the_single_ones() -> None:
    jacobian, change = problem(40, 200)
    kernel, shares = jacobian @ jacobian.mT, (0.1, 0.01, 0.001)
    together, krylov = respond(kernel, change, shares), respond_by_products(lambda v: kernel @ v, change, shares)
    for share, found, by_products in zip(shares, together, krylov, strict=True):
        (alone,) = respond(kernel, change, [share])
        torch.testing.assert_close(found.coefficients, alone.coefficients, rtol=1e-12, atol=0)
        size = float((jacobian.mT @ alone.coefficients).norm())
        assert float((jacobian.mT @ by_products.coefficients).norm()) == pytest.approx(size, rel=2e-3)
        assert by_products.left == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 2.0])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match="share_left must lie strictly between 0 and 1"):
        respond(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64), [0.5, share])


def test_a_damaged_change_is_refused() -> None:
    with pytest.raises(BadInput, match="NaN or infinite"):
        respond(torch.eye(2, dtype=torch.float64), torch.tensor([1.0, float("nan")], dtype=torch.float64))
