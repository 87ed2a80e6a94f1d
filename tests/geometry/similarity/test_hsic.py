"""Sums over rows of Gram matrices from features, against the matrices themselves."""

from __future__ import annotations

import pytest
import torch

from geomfeat import geometry
from geomfeat.geometry.dimension import own_dots as sums_of_rows
from geomfeat.geometry.dimension.leave_out_spectra import kept_of
from geomfeat.geometry.dimension.own_dots import own_dots
from geomfeat.geometry.similarity._hsic import Centred, Moments, dots_between
from geomfeat.numerics import tolerance
from geomfeat.types import Representation
from tests.geometry.clouds import normal


@pytest.mark.parametrize("rows", [7, 1024])
def test_sums_over_rows_are_those_of_the_gram_matrices(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_of_rows, "ROWS", rows)
    x, y = normal(40, 150), normal(40, 30, seed=1)
    k, l = x @ x.T, y @ y.T
    torch.testing.assert_close(own_dots(x), k.square().sum(1), **tolerance())
    torch.testing.assert_close(own_dots(x, x.T @ x), k.square().sum(1), **tolerance())
    torch.testing.assert_close(dots_between(x, y), (k * l).sum(1), **tolerance())


@pytest.mark.parametrize("size", [1e-40, 1.0, 1e40])
def test_terms_in_single_precision_have_the_exact_sum(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_of_rows, "ROWS", 7)
    x, y = size * normal(40, 150), normal(40, 30, seed=1)
    exact, found = dots_between(x, y), dots_between(x, y, single=True)
    assert float(found.sum()) == pytest.approx(float(exact.sum()), rel=1e-13)
    off = (found - exact).abs().max() / exact.abs().max()
    assert 0 < float(off) < 1e-6


def test_measures_of_one_layer_share_the_sums_of_its_own_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "geomfeat.geometry.dimension.leave_out_spectra.own_dots", lambda *given: made.append(1) or own_dots(*given)
    )
    layer = Representation(normal(40, 6), torch.arange(40) % 2, outputs=normal(40, 2, seed=1))
    geometry.low_rank_distance(layer, layer.outputs)
    geometry.cka(layer, layer.outputs)
    assert made == [1]


@pytest.mark.parametrize("shape", [(40, 6), (12, 30)])
def test_moments_of_a_kernel_with_itself_are_those_of_two_that_are_equal(shape: tuple[int, int]) -> None:
    shared = Centred.of_layer(kept_of(Representation(normal(*shape))))
    assert shared.features is not None
    alone = Centred(shared.n, shared.rounding, gram=shared.features @ shared.features.T)
    expected = Moments.between(alone, Centred(alone.n, alone.rounding, gram=alone.matrix))
    for one in (shared, alone):
        found = Moments.between(one, one)
        for name in ("dots", "p", "q", "lp", "kq"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), **tolerance())
