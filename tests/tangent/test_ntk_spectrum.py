"""Leading eigenvalues of the tangent kernel: known ones, those of the whole kernel, copies, zeros, failures."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.numerics import stream
from geomfeat.tangent import ntk, ntk_spectrum
from tests.reference.kernels import ntk_by_loop
from tests.zoo import Case, zoo

module = importlib.import_module("geomfeat.tangent._ntk_spectrum")
CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize("case", [case for case in zoo() if case.name in {"residual", "lstm", "shared"}], ids=str)
def test_equals_the_spectrum_from_one_gradient_at_a_time(case: Case) -> None:
    truth = ntk_by_loop(case.model, case.inputs)
    n, _, c, _ = truth.shape
    gram = truth.permute(0, 2, 1, 3).reshape(n * c, n * c)
    expected = torch.linalg.eigvalsh(gram).flip(0)[:3]
    got = ntk_spectrum(case.model, case.inputs, 3, batch_size=5)
    torch.testing.assert_close(got.eigenvalues, expected, **CLOSE)
    product = gram @ got.eigenvectors
    torch.testing.assert_close(product, got.eigenvectors * got.eigenvalues, rtol=0, atol=1e-9 * float(expected[0]))
    assert got.residuals.max() < 1e-9 * expected[0]
    assert not got.note


@pytest.mark.parametrize(("k", "params"), [(1, "2.*"), (17, None)])
def test_equals_the_spectrum_of_the_whole_kernel(k: int, params: str | None, device: str) -> None:
    model, x = zoo()[0].model, zoo()[0].inputs
    expected = torch.linalg.eigvalsh(ntk(model, x, outputs="full", params=params).gram).flip(0)
    got = ntk_spectrum(model, x, k, params=params, device=device)
    torch.testing.assert_close(got.eigenvalues, expected[:k], **CLOSE)
    gaps = (expected[None] - got.eigenvalues[:, None]).abs().amin(1)
    assert (gaps <= got.residuals + 1e-13 * expected[0]).all()


def test_a_linear_layer_has_every_eigenvalue_once_an_output() -> None:
    x = torch.randn(6, 4, generator=stream(0, "x"), dtype=torch.float64)
    once = torch.linalg.eigvalsh(x @ x.T + 1).flip(0)
    got = ntk_spectrum(nn.Linear(4, 3), x, 17)  # of rank 15
    torch.testing.assert_close(got.eigenvalues, once.repeat_interleave(3)[:17], **CLOSE)
    identity = torch.eye(17, dtype=torch.float64)
    torch.testing.assert_close(got.eigenvectors.T @ got.eigenvectors, identity, **CLOSE)


def test_copies_that_lanczos_misses_are_found() -> None:
    # Twelve copies of each eigenvalue, each a tenth of the one before: from one vector the eleventh may be missed.
    values = np.repeat(10.0 ** -np.arange(12), 12)[:143]

    def product(v: np.ndarray) -> np.ndarray:
        return values * v

    for seed in (538, *range(20)):
        got, vectors, note = module._leading(product, 143, 11, seed, 2.0**-52)
        np.testing.assert_allclose(got, values[:11], rtol=0, atol=1e-12)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(11), atol=1e-10)
        assert not note


def test_a_kernel_of_zeros_has_zeros() -> None:
    first = nn.Linear(3, 4)
    nn.init.constant_(first.bias, -100.0)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(4, 2, bias=False))
    got = ntk_spectrum(model, torch.ones(4, 3), 3)
    assert got.eigenvalues.abs().max() < 1e-14
    assert got.residuals.max() < 1e-14


def test_the_seed_decides() -> None:
    model, x = nn.Linear(2, 1), torch.randn(5, 2, generator=stream(0, "x"))
    first, again, other = (ntk_spectrum(model, x, 4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.eigenvectors, again.eigenvectors)
    torch.testing.assert_close(first.eigenvalues, other.eigenvalues, **CLOSE)
    assert not torch.equal(first.eigenvectors, other.eigenvectors)


def test_outputs_that_overflow_are_refused() -> None:
    with pytest.raises(BadInput, match="tangent kernel's product"):
        ntk_spectrum(nn.Linear(1, 2), torch.tensor([[1e200], [1e200]]).double() * 1e100, 1)


@pytest.mark.parametrize("k", [0, -1, 18])
def test_wrong_k_is_refused(k: int) -> None:
    with pytest.raises(BadInput, match="k must be"):
        ntk_spectrum(zoo()[0].model, zoo()[0].inputs, k)


def test_what_does_not_converge_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.sparse.linalg as sparse

    def gives_up(operator: object, k: int, **options: object) -> None:
        raise sparse.ArpackNoConvergence("no", np.array([1.5]), np.eye(18)[:, :1])

    monkeypatch.setattr(sparse, "eigsh", gives_up)
    got = ntk_spectrum(zoo()[0].model, zoo()[0].inputs, 3)
    assert torch.isfinite(got.eigenvalues).tolist() == [True, False, False]
    assert torch.isfinite(got.residuals).tolist() == [True, False, False]
    assert got.eigenvectors.shape == (18, 3)
    assert "converged" in got.note


def test_out_of_memory_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def full(*_: object, batch_size: int) -> None:
        sizes.append(batch_size)
        raise MemoryError

    monkeypatch.setattr(module, "vjp", full)
    with pytest.raises(OutOfMemory, match="restrict params="):
        ntk_spectrum(zoo()[0].model, zoo()[0].inputs, 3, batch_size=4)
    assert sizes == [4, 2, 1]
