"""Sums over rows of Gram matrices from features, against the matrices themselves."""

from __future__ import annotations

import pytest
import torch

from geomfeat.geometry.similarity import _hsic
from geomfeat.geometry.similarity._hsic import dots_between, own_dots
from geomfeat.numerics import tolerance
from tests.geometry.clouds import normal


@pytest.mark.parametrize("rows", [7, 1024])
def test_sums_over_rows_are_those_of_the_gram_matrices(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hsic, "ROWS", rows)
    x, y = normal(40, 150), normal(40, 30, seed=1)
    k, l = x @ x.T, y @ y.T
    torch.testing.assert_close(own_dots(x), k.square().sum(1), **tolerance())
    torch.testing.assert_close(own_dots(x, x.T @ x), k.square().sum(1), **tolerance())
    torch.testing.assert_close(dots_between(x, y), (k * l).sum(1), **tolerance())


@pytest.mark.parametrize("size", [1e-40, 1.0, 1e40])
def test_terms_in_single_precision_have_the_exact_sum(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hsic, "ROWS", 7)
    x, y = size * normal(40, 150), normal(40, 30, seed=1)
    exact, found = dots_between(x, y), dots_between(x, y, single=True)
    assert float(found.sum()) == pytest.approx(float(exact.sum()), rel=1e-13)
    off = (found - exact).abs().max() / exact.abs().max()
    assert 0 < float(off) < 1e-6
