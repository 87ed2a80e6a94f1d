"""Projections on the columns of small matrices: by QR where these are independent, else by singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.geometry.manifolds import projection_energies
from geomfeat.geometry.manifolds.projection_energies import _on_columns
from tests.geometry.clouds import normal


def slow(a: torch.Tensor, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """By the pseudoinverse of each matrix."""
    w = np.stack([np.linalg.pinv(one, rcond=1e-10) @ t for one, t in zip(a.numpy(), tau.numpy(), strict=True)])
    p = np.einsum("mkp,mp->mk", a.numpy(), w)
    return torch.as_tensor((p**2).sum(1)), torch.as_tensor(w)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(0, 8), st.integers(0, 99), st.floats(0, 1))
def test_projections_are_those_of_the_pseudoinverse(columns, more, seed, share):
    a, tau = normal(5 * (columns + more), columns, seed=seed).reshape(5, -1, columns), normal(5, columns + more, seed=1)
    gone = torch.rand(5, 1, columns, generator=torch.Generator().manual_seed(seed)) < share
    a = a.masked_fill(gone, 0.0)
    for found, expected in zip(_on_columns(a, tau), slow(a, tau), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("distance", [0.0, 1e-13, 1e-9])
def test_dependent_columns_fall_to_singular_values(distance, monkeypatch):
    called = []
    real = projection_energies._by_singular_values
    monkeypatch.setattr(
        projection_energies, "_by_singular_values", lambda a, tau: called.append(len(a)) or real(a, tau)
    )
    a, tau = normal(4 * 6, 3).reshape(4, 6, 3).clone(), normal(4, 6, seed=1)
    a[0, :, 1] = 0.0  # a zero column is no dependent one
    a[1, :, 2] = a[1, :, 0] + distance * a[1, :, 2]
    squared, w = _on_columns(a, tau)
    assert called == [1]
    expected = slow(a, tau)
    torch.testing.assert_close(squared, expected[0], rtol=1e-6, atol=1e-9)
    keep = [0, 2, 3]
    torch.testing.assert_close(w[keep], expected[1][keep])
