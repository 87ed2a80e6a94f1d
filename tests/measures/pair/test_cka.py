"""CKA as registered measures: known answers and the definition."""

from __future__ import annotations

import pytest
import torch

from geomfeat.geometry.similarity import linear_gram
from geomfeat.measures.pair.cka import cka_linear_biased, cka_linear_unbiased
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.reference.kernels import cka_by_definition

BOTH = {"biased": cka_linear_biased, "unbiased": cka_linear_unbiased}


def rep(n: int, d: int, name: str) -> Representation:
    return Representation(torch.randn(n, d, generator=stream(0, name), dtype=torch.float64), layer=name)


@pytest.mark.parametrize("estimator", BOTH)
@pytest.mark.parametrize("d", [3, 11])
def test_equals_the_definition(d: int, estimator: str) -> None:
    a, b = rep(8, d, "a"), rep(8, d + 1, "b")
    expected = cka_by_definition(linear_gram(a.x).numpy(), linear_gram(b.x).numpy(), estimator)
    got = BOTH[estimator](a, b)
    assert got.value == pytest.approx(expected, rel=1e-9)
    assert got.stderr > 0


@pytest.mark.parametrize("measure", BOTH.values(), ids=str)
def test_other_samples_are_a_failed_row(measure) -> None:
    (row,) = measure.run(rep(8, 3, "a"), rep(9, 3, "b")).values()
    assert not row.ok
    assert "same inputs" in row.note


def test_a_subspace_of_white_features_reads_the_root_of_its_share() -> None:
    # Centred orthonormal features and r of their d directions: CKA = r / sqrt(d r).
    q = torch.linalg.qr(torch.cat([torch.ones(40, 1).double(), rep(40, 8, "q").x], 1)).Q[:, 1:]
    value = cka_linear_biased(Representation(q), Representation(q[:, :2])).value
    assert value == pytest.approx((2 / 8) ** 0.5, abs=1e-12)


def test_independent_wide_layers_read_nearly_one_if_biased() -> None:
    assert cka_linear_biased(rep(50, 5000, "a"), rep(50, 5000, "b")).value > 0.95


def test_independent_wide_layers_read_zero_if_unbiased() -> None:
    got = cka_linear_unbiased(rep(50, 5000, "a"), rep(50, 5000, "b"))
    assert abs(got.value) < 4 * got.stderr < 0.2


def test_the_same_signal_in_two_wide_noisy_layers_reads_its_share() -> None:
    # Features s + noise of variance 4 each: tr(S_a S_b) / (|S_a| |S_b|) with many units tends to 1, since noise of
    # independent units averages out of the kernel; the unbiased estimate is at 1 from few samples on.
    s = rep(30, 2, "signal").x
    mix = rep(2, 20000, "mix").x
    a, b = (Representation(s @ mix + 2 * rep(30, 20000, side).x) for side in "ab")
    assert cka_linear_unbiased(a, b).value == pytest.approx(1, abs=0.02)


def test_features_in_disjoint_directions_that_repel_read_below_zero() -> None:
    # Distances of the second layer are large exactly where those of the first are small.
    a = torch.eye(6).double()
    a[3:] = a[:3]
    near = torch.cdist(a, a)
    b = torch.linalg.cholesky(4 * torch.eye(6).double() + near / near.max())
    assert cka_linear_unbiased(Representation(a), Representation(b)).value < -0.5
