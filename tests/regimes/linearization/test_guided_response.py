"""Responses by few products: those of the eigendecomposition, whatever the guess, and an honest error."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linearization.guided_response import MOST, GuidedSearch
from geomfeat.regimes.linearization.kronecker_kernel import KroneckerKernel
from geomfeat.regimes.linearization.response import Response, respond, respond_by_products

N, C, D = 6, 40, 8
SHARES = (0.002, 0.01, 0.1)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(0, "guided", *shape), dtype=WORKING)


def network(noise: float) -> tuple[Tensor, Tensor, KroneckerKernel]:
    """(kernel (N C, N C) of a last layer on features whose own kernel is not theta (x) I, change, the guess at it)."""
    a, w, root = draw(N, 12), draw(C, D) / D**0.5, draw(N, 3 * N)
    theta = root @ root.mT
    spread = draw(N * D, 3 * N * D)
    features = torch.kron(theta, torch.eye(D, dtype=WORKING)) + noise * spread @ spread.mT / D
    lifted = torch.kron(torch.eye(N, dtype=WORKING), w)
    own = 0.1 * a @ a.mT
    kernel = torch.kron(own, torch.eye(C, dtype=WORKING)) + lifted @ features @ lifted.mT
    return kernel, draw(N, C + 1)[:, :C], KroneckerKernel(own, theta, w)


def length(kernel: Tensor, found: Response) -> float:
    return math.sqrt(float(found.coefficients @ kernel @ found.coefficients))


@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_responses_are_those_of_the_eigendecomposition(noise: float) -> None:
    kernel, b, guess = network(noise)
    exact = respond(kernel, b.flatten(), SHARES)
    found = GuidedSearch(lambda v: (kernel @ v.flatten()).view(N, C), b, guess).responses(SHARES)
    for one, truth in zip(found, exact, strict=True):
        error = abs(math.log10(length(kernel, one) / length(kernel, truth)))
        assert error < max(1e-6, one.residual)
        assert one.residual < 0.05 or one.steps == MOST
    (lanczos, *_) = respond_by_products(lambda v: kernel @ v, b.flatten(), SHARES)
    assert found[0].steps < 0.5 * lanczos.steps or noise == 3.0


def test_a_perfect_guess_needs_the_first_products_only() -> None:
    kernel, b, guess = network(0.0)
    found = GuidedSearch(lambda v: (kernel @ v.flatten()).view(N, C), b, guess).responses(SHARES)
    exact = respond(kernel, b.flatten(), SHARES)
    assert found[0].steps == 4
    for one, truth in zip(found, exact, strict=True):
        assert length(kernel, one) == pytest.approx(length(kernel, truth), rel=0.02)


def test_a_useless_guess_costs_products_and_no_digits() -> None:
    kernel, b, guess = network(0.3)
    useless = KroneckerKernel(torch.eye(N, dtype=WORKING), torch.zeros(N, N, dtype=WORKING), guess.weight)
    search = GuidedSearch(lambda v: (kernel @ v.flatten()).view(N, C), b, useless, precise=1e-3)
    search.space.most = N * C  # pyright: ignore[reportOptionalMemberAccess]
    (found,) = search.responses([0.01])
    (exact,) = respond(kernel, b.flatten(), [0.01])
    assert length(kernel, found) == pytest.approx(length(kernel, exact), rel=1e-3)
    assert found.steps > 8


def test_further_shares_and_other_changes_use_what_is_known() -> None:
    kernel, b, guess = network(0.3)
    asked: list[Tensor] = []

    def product(v: Tensor) -> Tensor:
        asked.append(v)
        return (kernel @ v.flatten()).view(N, C)

    search = GuidedSearch(product, b, guess)
    search.responses(SHARES)
    before = len(asked)
    search.responses([0.03])
    assert len(asked) <= before + 1
    (found,) = search.towards(2 * b).responses([0.01])
    (exact,) = respond(kernel, 2 * b.flatten(), [0.01])
    assert length(kernel, found) == pytest.approx(length(kernel, exact), rel=0.05)


def test_a_part_out_of_reach_is_told_as_such() -> None:
    kernel, b, guess = network(0.0)
    frozen = KroneckerKernel(torch.zeros(N, N, dtype=WORKING), guess.others, guess.weight)
    kernel = kernel - torch.kron(guess.own, torch.eye(C, dtype=WORKING))
    (found,) = GuidedSearch(lambda v: (kernel @ v.flatten()).view(N, C), b, frozen).responses([0.01])
    (exact,) = respond(kernel, b.flatten(), [0.01])
    assert found.unreachable == pytest.approx(exact.unreachable, abs=1e-9)
    assert found.left == pytest.approx(exact.left, abs=1e-9)
    assert length(kernel, found) == pytest.approx(length(kernel, exact), rel=0.03)


def test_no_change_moves_nothing_and_bad_requests_are_refused() -> None:
    _, b, guess = network(0.0)
    (found,) = GuidedSearch(lambda v: v, torch.zeros_like(b), guess).responses([0.01])
    assert not found.coefficients.any()
    with pytest.raises(BadInput, match="share_left"):
        GuidedSearch(lambda v: v, b, guess).responses([1.5])
    with pytest.raises(BadInput, match="NaN or infinite"):
        GuidedSearch(lambda v: v, b * math.nan, guess)
