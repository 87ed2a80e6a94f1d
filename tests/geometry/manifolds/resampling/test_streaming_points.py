"""Points drawn from a stream: how many, which, at random, and the same in any order and in any parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import StreamingPoints

N, C = 400, 3
LABELS = torch.arange(N) % 5 % C
# Every sample says which one it is.
X = torch.arange(float(N))[:, None] * torch.tensor([1.0, -1.0])


def streamed(rows: Tensor, size: int = 33, most: int = 25, seed: int = 0) -> StreamingPoints:
    found = StreamingPoints(C, most=most, seed=seed)
    for index in rows.split(size):
        found.update(X[index], LABELS[index], index)
    return found


def chosen(found: StreamingPoints) -> list[int]:
    return [int(value) for value in found.result().x[:, 0]]


def test_each_class_has_as_many_points_as_asked_for_by_class_and_index() -> None:
    layer = streamed(torch.arange(N)).result()
    assert layer.labels.tolist() == [k for k in range(C) for _ in range(25)]
    kept = layer.x[:, 0].long()
    assert torch.equal(LABELS[kept], layer.labels)
    assert all(torch.equal(own, own.sort().values) for own in kept.split(25))
    assert len(kept.unique()) == C * 25


def test_fewer_samples_are_all_kept() -> None:
    assert sorted(chosen(streamed(torch.arange(N), most=1000))) == list(range(N))


def test_the_same_points_in_any_order_and_in_any_parts() -> None:
    expected = streamed(torch.arange(N))
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    parts, other = streamed(order[:90], size=7), streamed(order[60:], size=400)  # some come twice
    parts.merge(other)
    for found in (parts, parts.all_reduce(), streamed(order.repeat(2))):
        assert torch.equal(found.result().x, expected.result().x)
        assert torch.equal(found.result().labels, expected.result().labels)


def test_points_are_drawn_at_random_by_the_seed() -> None:
    """Of n samples of a class each is kept with the same chance: over seeds, the mean index is that of the class."""
    own = torch.arange(N)[LABELS == 1]
    means = torch.tensor([
        float(torch.tensor(chosen(streamed(torch.arange(N), seed=seed))[25:50]).float().mean()) for seed in range(20)
    ])  # fmt: skip
    spread = float(own.float().std()) / 25**0.5
    assert abs(float(means.mean() - own.float().mean())) < 4 * spread / 20**0.5
    assert 0.5 * spread < float(means.std()) < 1.5 * spread


@pytest.mark.parametrize(("call", "message"), [
    (lambda: StreamingPoints(0), "n_classes=0"),
    (lambda: StreamingPoints(2, most=0), "most=0"),
    (lambda: StreamingPoints(1).update(X, LABELS, torch.arange(N)), "labels from 0 to 2: give 0 to 0"),
    (lambda: StreamingPoints(C).update(X, LABELS, torch.arange(3)), "index of shape"),
    (lambda: StreamingPoints(C).update(X, LABELS / 2, torch.arange(N)), "labels of shape"),
    (lambda: StreamingPoints(C).result(), "no samples yet"),
    (lambda: StreamingPoints(C).all_reduce(), "no process has samples"),
    (lambda: streamed(torch.arange(9)).merge(StreamingPoints(C, most=3)), "most is 25 in one, 3 in another"),
    (lambda: streamed(torch.arange(9)).update(X[:2, :1], LABELS[:2], torch.arange(2)), "x has 1 features"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_refused(call: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()
