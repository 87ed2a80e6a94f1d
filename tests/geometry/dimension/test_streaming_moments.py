"""Moments of a stream against the same numbers of all samples at once; merging; exact sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension import (
    StreamedMoments,
    StreamingMoments,
    covariance_spectrum,
    effective_rank,
    participation_ratio,
    participation_ratio_wishart,
    stable_rank,
)
from geomfeat.geometry.dimension.leave_out_spectra import NoVariance
from geomfeat.geometry.probes import nc1
from geomfeat.types import Representation
from tests.geometry.clouds import normal

C = 4


def data(n: int = 300, d: int = 7, *, shift: float = 30.0) -> tuple[Tensor, Tensor]:
    """Features with a constant one and a mean far above their spread, and labels of classes of unequal size."""
    labels = torch.arange(n) % 7 % C
    x = normal(n, d, seed=1) @ normal(d, d, seed=2) + 2 * normal(C, d, seed=3)[labels] + shift
    x[:, 0] = 0.3
    return x, labels


def streamed(x: Tensor, labels: Tensor | None = None, size: int = 37, **options: Any) -> StreamingMoments:
    found = StreamingMoments(None if labels is None else C, **options)
    for k in range(0, len(x), size):
        found.update(x[k : k + size], None if labels is None else labels[k : k + size])
    return found


def dimensions_of(result: StreamedMoments) -> list[float]:
    return [
        result.participation_ratio, result.participation_ratio_wishart, result.effective_rank, result.stable_rank,
    ]  # fmt: skip


@pytest.mark.parametrize(("n", "d", "dtype"), [
    (300, 7, torch.float64), (300, 7, torch.float32), (30, 40, torch.float64), (300, 12, torch.float16),
])  # fmt: skip
def test_numbers_are_those_of_all_samples_at_once(n: int, d: int, dtype: torch.dtype) -> None:
    x, labels = data(n, d)
    x = x.to(dtype)
    found, whole = streamed(x, labels).result(), Representation(x, labels)
    expected = [participation_ratio(x), participation_ratio_wishart(x), effective_rank(x), stable_rank(x)]
    assert dimensions_of(found) == pytest.approx(list(map(float, expected)), rel=1e-10)
    spectrum = covariance_spectrum(x)
    torch.testing.assert_close(found.eigenvalues / found.eigenvalues[0], spectrum, rtol=1e-9, atol=1e-12)
    assert found.nc1 == pytest.approx(float(nc1(whole)), rel=1e-9)
    assert found.n == n
    assert found.note == ""


def test_means_and_covariance_are_those_of_numpy() -> None:
    x, labels = data()
    found = streamed(x, labels).result()
    for k in range(C):
        np.testing.assert_allclose(found.class_means[k], x[labels == k].numpy().mean(0), rtol=1e-13)
    assert found.counts.tolist() == labels.bincount().tolist()
    np.testing.assert_allclose(found.mean, x.numpy().mean(0), rtol=1e-13)
    values = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))[::-1]
    np.testing.assert_allclose(found.eigenvalues, values[: len(found.eigenvalues)], rtol=1e-9)


def test_whole_numbers_give_the_same_bits_in_any_order_and_in_any_parts() -> None:
    x = torch.randint(-40, 200, (500, 6), generator=torch.Generator().manual_seed(0)).float()
    labels = torch.arange(500) % C
    whole = streamed(x, labels)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    parts = streamed(x[order[:123]], labels[order[:123]], size=11)
    parts.merge(streamed(x[order[123:]], labels[order[123:]], size=500))
    again = StreamingMoments(C)
    again.merge(parts)
    for number, found in enumerate(again.all_reduce()._sums):
        moved = found
        if number:  # less another fixed point, also a whole number
            shift = again._point - whole._point
            totals = again._sums[1] + again._sums[0][:, None] * shift
            mixed = again._sums[1][:, :, None] * shift
            square = again._sums[0][:, None, None] * torch.outer(shift, shift)
            moved = totals if number == 1 else found + mixed + mixed.transpose(1, 2) + square
        assert torch.equal(moved, whole._sums[number])


def test_parts_are_merged_to_the_numbers_of_the_whole() -> None:
    x, labels = data()
    parts = streamed(x[:40], labels[:40])
    other = streamed(x[40:], labels[40:])
    before = dimensions_of(other.result())
    parts.merge(other)
    expected, found = streamed(x, labels).result(), parts.result()
    assert dimensions_of(found) == pytest.approx(dimensions_of(expected), rel=1e-12)
    assert found.nc1 == pytest.approx(expected.nc1, rel=1e-12)
    assert dimensions_of(other.result()) == before
    reduced = parts.all_reduce()
    assert dimensions_of(reduced.result()) == dimensions_of(found)
    reduced.update(x, labels)
    assert parts.result().n == 300


def test_one_scatter_for_all_classes_where_those_of_each_take_too_much() -> None:
    x, labels = data()
    found = streamed(x, labels, memory=1).result()
    assert np.isnan(found.nc1)
    assert "raise memory=" in found.note
    assert dimensions_of(found) == pytest.approx(dimensions_of(streamed(x, labels).result()), rel=1e-12)
    equal = torch.arange(300) % C
    assert streamed(x, equal, memory=1).result().nc1 == pytest.approx(float(nc1(x, equal)), rel=1e-9)


def test_nc1_that_is_not_known_says_why() -> None:
    x = data()[0]
    unlabelled = streamed(x).result()
    assert (np.isnan(unlabelled.nc1), unlabelled.note) == (True, "")
    assert "2 classes" in streamed(x, torch.zeros(300).long()).result().note
    assert "single sample" in streamed(x[:C], torch.arange(C)).result().note
    assert "1 classes have a single sample" in streamed(x[:9], torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 3])).result().note
    pair = torch.cat([x[:20], x[:20]])
    assert "coincide" in streamed(pair, torch.arange(40) // 20).result().note


def test_a_constant_layer_has_no_spectrum() -> None:
    with pytest.raises(NoVariance, match="all 20 samples coincide"):
        streamed(torch.full((20, 3), 0.1)).result()


@pytest.mark.parametrize(("call", "message"), [
    (lambda x, y: StreamingMoments(0), "n_classes=0"),
    (lambda x, y: StreamingMoments(C).update(x), "needs labels"),
    (lambda x, y: StreamingMoments(2).update(x, y), "labels from 0 to 3: give 0 to 1"),
    (lambda x, y: StreamingMoments(C).update(x, y[:5]), "give 300 whole numbers"),
    (lambda x, y: StreamingMoments(C).update(x, y / 2), "whole numbers"),
    (lambda x, y: streamed(x).update(x[:, :3]), "x has 3 features, in the first batch 7"),
    (lambda x, y: StreamingMoments().result(), "no samples yet"),
    (lambda x, y: StreamingMoments().all_reduce(), "no process has samples"),
    (lambda x, y: streamed(x).merge(streamed(x, y)), "n_classes is None in one, 4 in another"),
    (lambda x, y: streamed(x).merge(streamed(x[:, :2])), "d is 7 in one, 2 in another"),
])  # fmt: skip
def test_what_cannot_be_streamed_is_refused(call: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call(*data())
