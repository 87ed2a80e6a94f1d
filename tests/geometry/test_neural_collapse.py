"""NC1 against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomfeat.errors import BadInput
from geomfeat.geometry import nc1
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


def test_collapsed_classes_give_zero():
    labels = torch.arange(12) % 3
    assert nc1(normal(3, 5)[labels], labels) == 0.0


def test_isotropic_noise_around_a_simplex():
    """Means at e_1..e_C, noise s I: S_b^+ = C (I - 11'/C) on its span, so NC1 = s^2 (C - 1)."""
    c, n, s = 4, 4000, 0.3
    labels = torch.arange(c * n) % c
    x = torch.eye(c, dtype=torch.float64)[labels] + s * normal(c * n, c)
    assert nc1(x, labels) == pytest.approx(s**2 * (c - 1), rel=0.03)


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
