"""The guessed kernel against the matrix that it stands for."""

from __future__ import annotations

import torch
from torch import Tensor

from geomfeat.numerics import WORKING, safe_eigh, stream
from geomfeat.regimes.linearization.kronecker_kernel import KroneckerKernel
from geomfeat.regimes.linearization.response import respond

N, C, D = 5, 7, 3


def guess(own_rank: int = N) -> KroneckerKernel:
    g = stream(0, "kronecker", own_rank)
    a, b, w = (torch.randn(*s, generator=g, dtype=WORKING) for s in ((N, own_rank), (N, N), (C, D)))
    return KroneckerKernel(a @ a.mT, b @ b.mT, w)


def dense(k: KroneckerKernel) -> Tensor:
    return torch.kron(k.own, torch.eye(C, dtype=WORKING)) + torch.kron(k.others, k.weight @ k.weight.mT)


def change() -> Tensor:
    return torch.randn(N, C, generator=stream(1, "change"), dtype=WORKING)


def test_functions_are_those_of_the_whole_matrix() -> None:
    k, b = guess(), change()
    values, vectors = safe_eigh(dense(k))
    for function in (torch.sqrt, lambda w: w, lambda w: 1 / (w + 0.3)):
        expected = vectors @ (function(values) * (vectors.mT @ b.flatten()))
        torch.testing.assert_close(k.applied(function, b).flatten(), expected, rtol=1e-9, atol=1e-9)


def test_a_flow_is_that_of_the_whole_matrix() -> None:
    k, b = guess(), change()
    (expected,) = respond(dense(k), b.flatten(), [0.02])
    torch.testing.assert_close(k.flowed(b, 0.02).flatten(), expected.coefficients, rtol=1e-7, atol=1e-9)


def test_some_samples_weighed_are_rows_of_the_matrix_weighed() -> None:
    k, rows, root = guess(), torch.tensor([0, 3, 4]), torch.tensor([[1.0], [2.0], [0.5]], dtype=WORKING)
    index = (rows[:, None] * C + torch.arange(C)).flatten()
    scale = root.expand(-1, C).flatten()
    expected = scale[:, None] * dense(k)[index][:, index] * scale
    torch.testing.assert_close(dense(k.restricted(rows, root)), expected)


def test_what_a_frozen_head_cannot_reach_is_left_out() -> None:
    """Without a kernel of its own, outputs move within the span of W only."""
    k, b = guess(), change()
    frozen = KroneckerKernel(torch.zeros(N, N, dtype=WORKING), k.others, k.weight)
    within = b @ torch.linalg.qr(k.weight).Q @ torch.linalg.qr(k.weight).Q.mT
    torch.testing.assert_close(frozen.reachable(b), within, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(k.reachable(b), b, rtol=1e-9, atol=1e-9)
    assert float((guess(own_rank=2).reachable(b) - b).norm()) > 0.1
