"""Biased linear CKA as a registered measure: known answers and the definition."""

from __future__ import annotations

import pytest
import torch

from geomfeat.geometry.similarity import linear_gram
from geomfeat.measures.pair.cka_linear_biased import cka_linear_biased
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.reference.kernels import cka_by_definition


def rep(n: int, d: int, name: str) -> Representation:
    return Representation(torch.randn(n, d, generator=stream(0, name), dtype=torch.float64), layer=name)


@pytest.mark.parametrize("d", [3, 11])
def test_equals_the_definition(d: int) -> None:
    a, b = rep(8, d, "a"), rep(8, d + 1, "b")
    expected = cka_by_definition(linear_gram(a.x).numpy(), linear_gram(b.x).numpy(), "biased")
    got = cka_linear_biased(a, b)
    assert got.value == pytest.approx(expected, rel=1e-9)
    assert got.stderr > 0


def test_a_subspace_of_white_features_reads_the_root_of_its_share() -> None:
    # Centred orthonormal features and r of their d directions: CKA = r / sqrt(d r).
    q = torch.linalg.qr(torch.cat([torch.ones(40, 1).double(), rep(40, 8, "q").x], 1)).Q[:, 1:]
    value = cka_linear_biased(Representation(q), Representation(q[:, :2])).value
    assert value == pytest.approx((2 / 8) ** 0.5, abs=1e-12)


def test_independent_wide_layers_read_nearly_one() -> None:
    assert cka_linear_biased(rep(50, 5000, "a"), rep(50, 5000, "b")).value > 0.95


def test_other_samples_are_a_failed_row() -> None:
    (row,) = cka_linear_biased.run(rep(8, 3, "a"), rep(9, 3, "b")).values()
    assert not row.ok
    assert "same inputs" in row.note
