"""Representation change: known answers and the definition."""

from __future__ import annotations

import math

import pytest
import torch

from geomfeat.measures.pair.representation_change import representation_change
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.reference.kernels import jackknife_by_loop

A, B = torch.randn(2, 9, 4, generator=stream(0, "change"), dtype=torch.float64)


def by_definition(rows: list[int]) -> float:
    moved = sum((float(B[i, j]) - float(A[i, j])) ** 2 for i in rows for j in range(4))
    size = sum(float(A[i, j]) ** 2 for i in rows for j in range(4))
    return math.sqrt(moved / size)


def test_equals_the_definition() -> None:
    got = representation_change(Representation(A), Representation(B))
    assert got.value == pytest.approx(by_definition(list(range(9))), rel=1e-12)
    assert got.stderr == pytest.approx(jackknife_by_loop(by_definition, 9), rel=1e-9)


@pytest.mark.parametrize(("factor", "change"), [(1.0, 0.0), (0.0, 1.0), (-1.0, 2.0), (3.0, 2.0)])
def test_a_scaled_layer_changed_by_its_factor(factor: float, change: float) -> None:
    got = representation_change(Representation(A), Representation(factor * A))
    assert got.value == pytest.approx(change, abs=1e-12)


def test_layers_of_other_shape_are_a_failed_row() -> None:
    (row,) = representation_change.run(Representation(A), Representation(B[:, :3])).values()
    assert not row.ok
    assert "cka" in row.note
