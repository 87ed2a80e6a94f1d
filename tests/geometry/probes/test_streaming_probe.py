"""A probe in two passes against scikit-learn on the same folds, a known accuracy, and parts against the whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.probes import FittedProbe, ProbeAccuracy, StreamingProbe, linear_probe
from geomfeat.geometry.probes.streaming_probe import FOLDS_OF_SAMPLES
from geomfeat.statistics.sample_numbers import number_of_each
from tests.geometry.clouds import normal
from tests.reference.probes import ridge_accuracy_by_fold

C = 3


def data(n: int = 400, d: int = 6, *, classes: int = C, apart: float = 0.7) -> tuple[Tensor, Tensor]:
    """Correlated features far from zero, one of them constant, and classes of unequal size."""
    labels = (torch.arange(n) ** 2 % 7 % classes).long()
    x = normal(n, d, seed=1) @ normal(d, d, seed=2) + apart * normal(classes, d, seed=3)[labels] + 20
    x[:, 0] = 0.3
    return x, labels


def fed(stream: Any, x: Tensor, labels: Tensor, index: Tensor | None = None, size: int = 37) -> Any:
    index = torch.arange(len(x)) if index is None else index
    for rows in torch.arange(len(x)).split(size):
        stream.update(x[rows], labels[rows], index[rows])
    return stream


def probed(x: Tensor, labels: Tensor, index: Tensor | None = None, **options: Any) -> ProbeAccuracy:
    fitted = fed(StreamingProbe(int(labels.max()) + 1, **options), x, labels, index).fitted()
    return fed(fitted, x, labels, index, size=50).result()


@pytest.mark.parametrize(("classes", "strength", "d"), [(3, 1.0, 6), (2, 0.01, 6), (3, 1e4, 500)])
def test_it_is_the_ridge_classifier_of_scikit_learn(classes: int, strength: float, d: int) -> None:
    x, labels = data(d=d, classes=classes)
    fold = (number_of_each(torch.arange(len(x)), 4, FOLDS_OF_SAMPLES) % 5).astype(int)
    found = probed(x, labels, strength=strength, seed=4)
    assert list(found.by_fold) == ridge_accuracy_by_fold(x.numpy(), labels.numpy(), fold, strength)
    assert found.chance == pytest.approx(float(labels.bincount().max()) / len(x))
    assert np.bincount(fold).min() > 50


def test_two_gaussian_classes_are_told_apart_as_well_as_can_be() -> None:
    n, distance = 20_000, 2.0
    labels = torch.arange(n) % 2
    x = normal(n, 5, seed=0).float()
    x[:, 2] += distance * labels
    found = probed(x, labels)
    known = 0.5 * (1 + math.erf(distance / 2 / math.sqrt(2)))
    assert abs(found.accuracy - known) < 4 * found.stderr
    assert found.stderr == pytest.approx(math.sqrt(known * (1 - known) / n), rel=0.02)


def test_it_agrees_with_the_probe_in_memory() -> None:
    x, labels = data(1000)
    found, known = probed(x, labels), linear_probe(x, labels, classifier="ridge")
    assert abs(found.accuracy - known.accuracy) < 2 * known.stderr
    assert known.accuracy > known.chance + 5 * known.stderr


def test_batches_and_parts_do_not_matter() -> None:
    x, labels = data()
    x = (10 * x).round()  # sums of whole numbers are exact
    index, order = torch.arange(len(x)), torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    whole = fed(StreamingProbe(C), x, labels)
    parts = fed(StreamingProbe(C), x[order[:90]], labels[order[:90]], index[order[:90]], size=11)
    rest = fed(StreamingProbe(C), x[order[90:]], labels[order[90:]], index[order[90:]], size=400)
    parts.merge(rest)
    again = StreamingProbe(C)
    again.merge(parts.all_reduce())
    first, second = (one.fitted() for one in (whole, again))
    for one, other in zip(first._read_outs, second._read_outs, strict=True):
        probes = x[:20] + 0.5
        values = [(probes - r.point) @ r.weights + r.constant for r in (one, other)]
        torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=1e-12)
    tested: FittedProbe = fed(second, x, labels, index).all_reduce()
    assert tested.result().by_fold == fed(first, x, labels).result().by_fold


def test_samples_of_one_index_are_held_out_together() -> None:
    """Noise has no classes to be read from, but for copies of what was trained on."""
    n, d = 120, 200
    x, labels = normal(n, d, seed=5), torch.arange(n) % 2
    x, labels = x.repeat(4, 1), labels.repeat(4)
    assert probed(x, labels).accuracy > 0.8
    assert probed(x, labels, torch.arange(n).repeat(4)).accuracy < 0.65


def test_classes_that_never_came_are_never_answered() -> None:
    x, labels = data(60, classes=2)
    probe = fed(StreamingProbe(9), x, 4 * labels)
    assert fed(probe.fitted(), x, 4 * labels).result().by_fold == probed(x, labels).by_fold


@pytest.mark.parametrize(("call", "message"), [
    (lambda: StreamingProbe(1), "n_classes=1 and folds=5"),
    (lambda: StreamingProbe(2, folds=1), "folds=1"),
    (lambda: StreamingProbe(2, strength=0.0), "strength=0.0 must be a positive number"),
    (lambda: StreamingProbe(2).fitted(), "no samples yet"),
    (lambda: StreamingProbe(2).all_reduce(), "no process has samples"),
    (lambda: fed(StreamingProbe(2), *data(30)), "labels from 0 to 2: give 0 to 1"),
    (lambda: fed(StreamingProbe(3), *data(30)).update(torch.ones(1, 2), [0], [0]), "2 features, in the first batch 6"),
    (lambda: fed(StreamingProbe(3), *data(30)).update(torch.ones(1, 6), [0], [0.5]), "index of shape"),
    (lambda: fed(StreamingProbe(3), *data(30)).merge(StreamingProbe(3, seed=1)), "seed is 0 in one, 1 in another"),
    (lambda: fed(StreamingProbe(3), *data(30)).fitted().result(), "have not been tested"),
    (lambda: fed(StreamingProbe(2), data(30)[0], torch.zeros(30).long()).fitted(), "at least 2 classes, got 1"),
    (lambda: fed(StreamingProbe(3), *data(30), torch.zeros(30).long()).fitted(), "fold . of 5 has no samples"),
    (lambda: fed(StreamingProbe(3, folds=2), *data(60), data(60)[1] * 2).fitted(),
     "all samples of class . are in one fold"),
    (lambda: fed(fed(StreamingProbe(3), *data(90)).fitted(), *data(90, d=4)), "4 features, in the first pass 6"),
])  # fmt: skip
def test_what_cannot_be_is_refused(call: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()
