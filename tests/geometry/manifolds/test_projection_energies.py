"""Projections on the columns of small matrices: by QR where these are independent, else by singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.geometry.manifolds import project_on_cones, projection_energies
from geomfeat.geometry.manifolds.anchor_points import Anchors, anchors_of
from geomfeat.geometry.manifolds.projection_energies import _on_columns, axis_energies, by_factors
from tests.geometry.clouds import normal, signs, spheres


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


def anchors(x: torch.Tensor) -> Anchors:
    n_manifolds, points, n = x.shape
    t, y = normal(40, n, seed=3), signs(40, n_manifolds, seed=3)
    owner = torch.arange(n_manifolds).repeat_interleave(points)
    return anchors_of(x.reshape(-1, n), owner, y, project_on_cones(x.reshape(-1, n), owner, t, y))


@pytest.mark.parametrize("radius", [0.01, 0.8, 20.0])
def test_gram_matrices_give_what_factors_do(radius):
    found = anchors(spheres(6, 8, 25, radius, 4))
    assert bool(found.seen.clear.all())
    rows = torch.nonzero(found.used)[:, 0]
    assert len(rows) == 40
    for quick, exact in zip(vars(axis_energies(found)).values(), vars(by_factors(found, rows)).values(), strict=True):
        torch.testing.assert_close(quick, exact, rtol=1e-11, atol=1e-12 * float(exact.abs().max()))


def test_draws_with_nearly_dependent_axes_are_left_to_factors(monkeypatch):
    """Classes along one direction have dependent axes in every draw in which two of them move."""
    found, asked = anchors(normal(5, 1, 20) + torch.tensor([-1.0, 0.3, 1.0])[:, None] * normal(1, 20, seed=7)), []
    monkeypatch.setattr(projection_energies, "by_factors", lambda of, rows: asked.append(rows) or by_factors(of, rows))
    energies, rows = axis_energies(found), torch.nonzero(found.used)[:, 0]
    assert len(asked[0]) > 0
    assert torch.equal(asked[0], rows[~found.seen.clear[rows]])
    axes = found.axes(rows)
    whole = torch.cat([found.centers * found.active[rows][:, :, None], axes], 2)
    for d, (a, both) in enumerate(zip(axes, whole, strict=True)):
        t = found.t[rows[d]]
        for value, of, target in ((energies.b, a, t), (energies.c, both, torch.cat([0 * t, t]))):
            expected = torch.linalg.pinv(of.T, rtol=1e-9) @ target
            assert float(value[d]) == pytest.approx(float((of.T @ expected).square().sum()), rel=1e-8)
