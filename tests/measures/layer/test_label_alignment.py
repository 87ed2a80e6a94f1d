"""Label alignment: collapse reads 1, independence 0, a layer that ignores its input nothing at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.geometry.similarity import label_gram, linear_gram
from geomfeat.measures.layer.label_alignment import label_alignment_unbiased
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.reference.kernels import cka_by_definition

LABELS = torch.arange(12) % 3
NOISE = torch.randn(12, 5, generator=stream(0, "noise"), dtype=torch.float64)


def test_equals_the_definition() -> None:
    x = NOISE + torch.eye(3, 5)[LABELS]
    got = label_alignment_unbiased(Representation(x, LABELS))
    expected = cka_by_definition(linear_gram(x).numpy(), label_gram(LABELS).numpy(), "unbiased")
    assert got.value == pytest.approx(expected, rel=1e-9)


def test_collapsed_classes_read_one() -> None:
    means = torch.linalg.qr(torch.randn(5, 3, generator=stream(0, "means"), dtype=torch.float64)).Q.T
    assert label_alignment_unbiased(Representation(means[LABELS] + 7, LABELS)).value == pytest.approx(1)


def test_features_independent_of_the_labels_read_zero() -> None:
    values = []
    for seed in range(200):
        x = torch.randn(12, 300, generator=stream(seed, "independent"), dtype=torch.float64)
        values.append(label_alignment_unbiased(Representation(x, LABELS)).value)
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5


def test_names_of_classes_do_not_matter() -> None:
    x = NOISE + torch.eye(3, 5)[LABELS]
    renamed = torch.tensor([40, -7, 3])[LABELS]
    found, expected = (label_alignment_unbiased(Representation(x, labels)) for labels in (renamed, LABELS))
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "words"), [(None, "needs labels"), (torch.zeros(12), "two classes"), (torch.arange(12), "equally alike")]
)
def test_labels_that_say_nothing_are_a_failed_row(labels, words: str) -> None:
    (row,) = label_alignment_unbiased.run(Representation(NOISE, labels)).values()
    assert not row.ok
    assert words in row.note
