"""The guess for normalised features against the matrix that it stands for, and the products that it saves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linearization.guided_response import GuidedSearch
from geomfeat.regimes.linearization.kronecker_kernel import KroneckerKernel
from geomfeat.regimes.linearization.normed_kernel import NormedKernel
from geomfeat.regimes.linearization.response import respond

SIZES = {"many outputs": (5, 40, 8), "fewer outputs than samples": (9, 6, 4)}
LARGE = {"large": (6, 60, 20)}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=stream(seed, "normed", *shape), dtype=WORKING)


def guess(size: str, own_rank: int | None = None) -> NormedKernel:
    n, c, d = (SIZES | LARGE)[size]
    own, root, units = draw(n, own_rank or n + 1), draw(n, n + 2), draw(n, d)
    plain = KroneckerKernel(0.1 * own @ own.mT, root @ root.mT, draw(c, d, seed=1))
    return NormedKernel(plain, units / units.norm(dim=1, keepdim=True))


def dense(k: NormedKernel) -> Tensor:
    """By its definition: blocks theta_ij W P_i P_j W', and H (x) I."""
    c, d = k.plain.weight.shape
    across = [torch.eye(d, dtype=WORKING) - torch.outer(x, x) for x in k.units]
    blocks = [
        [k.plain.others[i, j] * k.plain.weight @ p @ q @ k.plain.weight.mT for j, q in enumerate(across)]
        for i, p in enumerate(across)
    ]
    body = torch.cat([torch.cat(row, 1) for row in blocks])
    return torch.kron(k.plain.own, torch.eye(c, dtype=WORKING)) + body


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [1e-3, 1.0, 1e3])
def test_solutions_are_those_of_the_whole_matrix(size: str, shift: float) -> None:
    k, (n, c, _) = guess(size), SIZES[size]
    b = draw(n, c, seed=2)
    found = k.solved(shift, b).flatten()
    shifted = dense(k) + shift * torch.eye(n * c, dtype=WORKING)
    assert float((shifted @ found - b.flatten()).norm()) < 2e-3 * float(b.norm())
    assert not k.solved(shift, torch.zeros_like(b)).any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.3, 0.01])
def test_a_flow_is_that_of_the_whole_matrix(size: str, share: float) -> None:
    k, (n, c, _) = guess(size), SIZES[size]
    b, kernel = draw(n, c, seed=2), dense(k)
    (exact,) = respond(kernel, b.flatten(), [share])
    apart = k.flowed(b, share).flatten() - exact.coefficients
    # A search ends where its next correction is FINE of the response; what is left over is a few times that.
    assert float(apart @ kernel @ apart) < 0.05**2 * float(exact.coefficients @ kernel @ exact.coefficients)


def test_some_samples_weighed_are_rows_of_the_matrix_weighed() -> None:
    k, (_, c, _) = guess("many outputs"), SIZES["many outputs"]
    rows, root = torch.tensor([0, 3, 4]), torch.tensor([[1.0], [2.0], [0.5]], dtype=WORKING)
    index = (rows[:, None] * c + torch.arange(c)).flatten()
    scale = root.expand(-1, c).flatten()
    expected = scale[:, None] * dense(k)[index][:, index] * scale
    torch.testing.assert_close(dense(k.restricted(rows, root)), expected)


def test_a_kernel_that_moves_nothing_along_features_takes_fewer_products() -> None:
    """As behind a layer norm: the guess without the projections takes these outputs for easy to change."""
    truth, (n, c, d) = guess("large"), LARGE["large"]
    spread = draw(n * d, 3 * n * d)
    across = torch.eye(d, dtype=WORKING) - truth.units[:, :, None] * truth.units[:, None]
    lifted = torch.block_diag(*(truth.plain.weight @ p for p in across))
    kernel = dense(truth) + 0.1 * lifted @ spread @ spread.mT @ lifted.mT / d
    b = draw(n, c, seed=2)
    (exact,) = respond(kernel, b.flatten(), [0.01])
    steps, errors = [], []
    for one in (truth, truth.plain):
        search = GuidedSearch(lambda v: (kernel @ v.flatten()).view(n, c), b, one, 0.01)
        search.space.most = n * c  # pyright: ignore[reportOptionalMemberAccess]
        (found,) = search.responses([0.01])
        apart = found.coefficients - exact.coefficients
        errors.append(float((apart @ kernel @ apart) / (exact.coefficients @ kernel @ exact.coefficients)) ** 0.5)
        steps.append(found.steps)
    assert steps[0] < 0.5 * steps[1]
    assert errors[0] < 0.05 < errors[1]  # what a guess takes for easy is missing, and its correction is not long
