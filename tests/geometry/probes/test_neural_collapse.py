"""NC1 against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.errors import BadInput
from geomfeat.geometry.probes import nc1
from geomfeat.numerics import jackknife_stderr
from geomfeat.statistics.group_errors import values_alone
from tests.geometry.clouds import normal
from tests.reference import geometry as reference


@settings(deadline=None, max_examples=40)
@given(
    classes=st.integers(2, 5), d=st.integers(1, 12), seed=st.integers(0, 10**6),
    size=st.sampled_from([1e-20, 1.0, 1e20]), uneven=st.booleans(),
)  # fmt: skip
def test_equals_its_definition(classes: int, d: int, seed: int, size: float, uneven: bool):
    labels = torch.arange(8 * classes) % classes
    labels[: 3 if uneven else 0] = 0
    x = normal(len(labels), d, seed=seed) + 2 * normal(classes, d, seed=seed + 1)[labels] + 5
    expected = reference.nc1(x.numpy(), labels.numpy())
    assert nc1(size * x, labels) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("n", "d"), [(60, 5), (24, 40), (33, 4)])
def test_its_error_is_the_jackknife_over_tenths_of_each_class(n: int, d: int):
    labels = torch.arange(n) % 3
    labels[-1] = 3  # a class that is lost with one of the tenths
    x = normal(n, d) + 2 * normal(4, d, seed=1)[labels] + 5
    order = torch.argsort(labels, stable=True)
    parts = [order[torch.arange(n) % 10 != g] for g in range(10)]
    with values_alone():
        without = [float(nc1(x[rows], labels[rows])) for rows in parts]
    assert nc1(x, labels).stderr == pytest.approx(jackknife_stderr(without), rel=1e-9)


def test_collapsed_classes_give_zero():
    labels = torch.arange(12) % 3
    assert nc1(normal(3, 5)[labels], labels) == 0.0


def test_isotropic_noise_around_a_simplex():
    """Means at e_1..e_C, noise s I: S_b^+ = C (I - 11'/C) on its span, so NC1 = s^2 (C - 1)."""
    c, n, s = 4, 4000, 0.3
    labels = torch.arange(c * n) % c
    x = torch.eye(c, dtype=torch.float64)[labels] + s * normal(c * n, c)
    assert nc1(x, labels) == pytest.approx(s**2 * (c - 1), rel=0.03)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 5e-3), (torch.bfloat16, 0.05)])
def test_rounding_in_directions_that_a_bottleneck_left_empty_is_not_inverted(dtype: torch.dtype, tolerance: float):
    """NC1 does not change under an injective linear map, such as that of 2 units onto 100."""
    angle = torch.arange(10, dtype=torch.float64) * 2 * torch.pi / 10
    labels = torch.arange(800) % 10
    code = torch.stack([angle.cos(), angle.sin()], 1)[labels] + 0.05 * normal(800, 2)
    expected = reference.nc1(code.numpy(), labels.numpy())
    wide = (code @ normal(2, 100, seed=1) + normal(100, seed=2)).to(dtype)
    for x in (wide, wide.float(), wide.double()):
        assert nc1(x, labels) == pytest.approx(expected, rel=tolerance)


def test_a_mean_far_above_the_scatter_costs_no_digits():
    labels = torch.arange(60) % 3
    x = ((normal(60, 4) + normal(3, 4, seed=1)[labels]) * 2**12).round() / 2**12
    assert nc1(x + 2.0**22, labels) == pytest.approx(nc1(x, labels), rel=1e-6)
    assert nc1((x * 2**12).long() + 2**40, labels) == pytest.approx(nc1(x, labels), rel=1e-6)


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (normal(6, 2), torch.zeros(6), "at least 2 classes"),
        (normal(6, 2), torch.arange(6), "single sample"),
        (torch.cat([normal(6, 2), -normal(6, 2)]), torch.arange(6).repeat(2), "class means coincide"),
        (torch.ones(6, 2), torch.arange(6) % 2, "coincide"),
    ],
)
def test_what_has_no_nc1_is_named(x: torch.Tensor, labels: torch.Tensor, message: str):
    with pytest.raises(BadInput, match=message):
        nc1(x, labels)
