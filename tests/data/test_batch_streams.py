"""Inputs in batches: a DataLoader, Dataset or iterator gives what the stacked tensor gives, and is read as little."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset as TorchDataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import geomfeat as gf
from geomfeat.data import batch_streams
from geomfeat.data._batch import Arguments, split
from geomfeat.data.batch_streams import Stream, opened, reread
from geomfeat.errors import BadInput
from geomfeat.models.nested_inputs import batches, map_inputs, n_samples, take

N = 41
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))


class Pairs(TorchDataset[Any]):
    """Counts how often each sample is read."""

    def __init__(self) -> None:
        self.reads = [0] * N

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        self.reads[i] += 1
        return X[i], int(Y[i])


class Flowing(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(zip(X, Y, strict=True))


class Again:
    """Batches that can be iterated over several times, of uneven sizes, as arrays."""

    def __iter__(self) -> Iterator[Any]:
        for start, stop in ((0, 3), (3, 20), (20, 21), (21, N)):
            yield X[start:stop].numpy(), Y[start:stop].numpy()


SOURCES: dict[str, Any] = {
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=8),
    "loader of one": lambda: DataLoader(TensorDataset(X, Y), batch_size=1),
    "loader of all": lambda: DataLoader(TensorDataset(X, Y), batch_size=N),
    "loader of batches": lambda: DataLoader([(X[:30], Y[:30]), (X[30:], Y[30:])], batch_size=None),
    "batch sampler": lambda: DataLoader(TensorDataset(X, Y), batch_sampler=BatchSampler(range(N), 7, False)),
    "dataset": Pairs,
    "iterable dataset": Flowing,
    "loader of an iterable dataset": lambda: DataLoader(Flowing(), batch_size=5),
    "iterable": Again,
}
ONCE: dict[str, Any] = {
    "generator": lambda: ((X[i : i + 9], Y[i : i + 9]) for i in range(0, N, 9)),
    "iterator of a list": lambda: iter([(X[:40], Y[:40]), (X[40:], Y[40:])]),
    "zip": lambda: zip(X.split(10), Y.split(10), strict=True),
}


def stream(source: Any, model: Any = None) -> Stream:
    inputs, _ = opened(model or net(), source)
    assert isinstance(inputs, Stream)
    return inputs


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("size", [1, 4, 16, 64])
def test_every_source_gives_the_samples_in_batches_of_any_size(name: str, size: int) -> None:
    inputs = stream(SOURCES[name]())
    seen = [(rows, part) for rows, part in batches(inputs, size)]
    assert torch.equal(torch.cat([part for _, part in seen]), X)
    assert [rows for rows, _ in seen] == [rows for rows, _ in batches(X, size)]
    assert n_samples(inputs) == N
    assert torch.as_tensor(inputs.labels).tolist() == Y.tolist()


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    "rows",
    [torch.tensor([40, 0, 7, 7]), slice(3, 12), slice(None), slice(-2, None), torch.arange(N) > 30, torch.tensor([5])],
    ids=str,
)
def test_any_samples_can_be_taken(name: str, rows: Any) -> None:
    assert torch.equal(take(stream(SOURCES[name]()), rows), X[rows])


@pytest.mark.parametrize("name", ONCE)
def test_an_iterator_is_read_once(name: str) -> None:
    inputs = stream(ONCE[name]())
    assert torch.equal(inputs.first(5), X[:5])  # what is looked at first is not lost
    assert torch.equal(torch.cat([part for _, part in batches(inputs, 7)]), X)
    assert inputs.n == N
    assert inputs.labels.tolist() == Y.tolist()
    assert torch.equal(inputs.first(3), X[:3])
    with pytest.raises(BadInput, match=r"can be read once only.*DataLoader\(batches, batch_size=None\)"):
        list(batches(inputs, 7))


@pytest.mark.parametrize("name", ONCE)
def test_counting_would_use_an_iterator_up(name: str) -> None:
    with pytest.raises(BadInput, match=r"inputs is a \w+, which can be read once only, but counting the samples"):
        n_samples(stream(ONCE[name]()))
    with pytest.raises(BadInput, match="but analyze reads it again"):
        reread(net(), ONCE[name](), why="analyze")


def test_a_first_look_and_the_pass_after_it_read_every_sample_once() -> None:
    data = Pairs()
    inputs = stream(DataLoader(data, batch_size=4))
    inputs.first(6)
    list(batches(inputs, 10))
    assert data.reads == [1] * N


def test_ranges_that_follow_one_another_are_read_in_one_pass() -> None:
    data = Pairs()
    inputs = stream(DataLoader(data, batch_size=4))
    parts = [part for start in range(0, N, 10) for _, part in inputs.batches(3, start, min(start + 10, N))]
    assert torch.equal(torch.cat(parts), X)
    assert data.reads == [1] * N


@pytest.mark.parametrize(
    "sampler",
    [
        {"shuffle": True},
        {"sampler": RandomSampler(range(N))},
        {"sampler": SubsetRandomSampler(range(N))},
        {"sampler": WeightedRandomSampler([1.0] * N, N)},
        {"batch_sampler": BatchSampler(RandomSampler(range(N)), 8, False)},
    ],
    ids=["shuffle", "random", "subset", "weighted", "batches"],
)
def test_a_shuffled_order_is_reported_where_the_order_matters(sampler: dict[str, Any]) -> None:
    loader = DataLoader(TensorDataset(X, Y), **sampler)
    with pytest.raises(
        BadInput, match=r"a DataLoader that draws a new order for every pass, but compare .*shuffle=False"
    ):
        reread(net(), loader, why="compare")
    with pytest.raises(BadInput, match="shuffles, so labels= would not belong to its samples"):
        opened(net(), loader, Y)


def test_samples_that_change_between_passes_are_reported() -> None:
    class Augmented(Pairs):
        def __getitem__(self, i: int) -> tuple[Tensor, int]:
            x, y = super().__getitem__(i)
            return x + random.random(), y

    inputs = stream(DataLoader(Augmented(), batch_size=8))
    assert inputs.n == N
    with pytest.raises(BadInput, match=r"batch 0 of the inputs holds other samples in a second pass.*augmentation"):
        take(inputs, slice(0, 3))


def test_the_global_random_state_is_left_alone() -> None:
    inputs = stream(DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True))
    before = torch.get_rng_state()
    assert len(torch.cat([part for _, part in inputs.batches(8)])) == N
    assert torch.equal(torch.get_rng_state(), before)


def test_worker_processes_read_the_same() -> None:
    inputs = stream(DataLoader(TensorDataset(X, Y), batch_size=8, num_workers=1))
    assert torch.equal(take(inputs, slice(None)), X)


def test_mapped_inputs_are_mapped_as_they_are_read() -> None:
    doubled = map_inputs(stream(SOURCES["loader"]()), lambda t: 2 * t)
    assert torch.equal(torch.cat([part for _, part in batches(doubled, 7)]), 2 * X)
    assert torch.equal(take(doubled, torch.tensor([4, 1])), 2 * X[[4, 1]])
    assert n_samples(doubled) == N


def test_sums_depend_on_samples_and_order_alone() -> None:
    sums = {stream(SOURCES[name]()).checksum() for name in SOURCES}
    assert len(sums) == 1
    assert stream(DataLoader(TensorDataset(X.flip(0)), batch_size=8)).checksum() not in sums


def test_batches_of_several_lengths_are_joined_only_where_they_fit() -> None:
    parts = [torch.ones(3, 4, 2), torch.ones(3, 4, 2), torch.ones(2, 6, 2)]
    inputs = stream(DataLoader(parts, batch_size=None))
    assert [tuple(part.shape) for _, part in inputs.batches(5)] == [(5, 4, 2), (1, 4, 2), (2, 6, 2)]
    assert inputs.first(8).shape == (6, 4, 2)
    with pytest.raises(BadInput, match=r"samples of several shapes, \(4, 2\), \(6, 2\).*collate_fn="):
        take(inputs, slice(None))


class Two(nn.Module):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x * lengths


class Optional(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None, flag: bool = False) -> Tensor:
        return x


class Words(nn.Module):
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        return input_ids


class AnyWords(nn.Module):
    def forward(self, **words: Tensor) -> Tensor:
        return words["a"]


class Needy(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


A, B, C = torch.ones(2, 3), torch.zeros(2), torch.tensor([1, 0])


@pytest.mark.parametrize(
    ("model", "batch", "inputs", "labels"),
    [
        (net(), A, A, None),
        (net(), [A], A, None),
        (net(), (A, C), A, C),
        (net(), (A, C, ["path", "path"]), A, C),
        (Two(), (A, B), (A, B), None),
        (Two(), (A, B, C), (A, B), C),
        (Two(), ((A, B), C), (A, B), C),
        (Optional(), (A, C), A, C),
        (Optional(), (A, B, C), (A, B), C),
        (Words(), {"input_ids": A, "labels": C}, {"input_ids": A}, C),
        (Words(), {"input_ids": A, "attention_mask": B, "index": C}, {"input_ids": A, "attention_mask": B}, None),
        (AnyWords(), {"a": A, "label": C}, {"a": A}, C),
        (Needy(), {"x": A, "y": B}, {"x": A, "y": B}, None),
        (nn.DataParallel(net()), (A, C), A, C),
    ],
)
def test_what_of_a_batch_the_model_takes_and_what_is_labels(model: Any, batch: Any, inputs: Any, labels: Any) -> None:
    found, given = split(batch, Arguments.of(model))
    assert repr(found) == repr(inputs)
    assert given is labels


def test_a_mapping_without_arguments_of_the_model_is_refused() -> None:
    with pytest.raises(BadInput, match=r"batches hold pixels, and the model takes none of these.*input_ids"):
        split({"pixels": A}, Arguments.of(Words()))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (["b", "a", "b"], ["b", "a", "b"]),
        (np.array(["b", "a", "b"]), ["b", "a", "b"]),
        (torch.tensor([[1], [0], [1]]), [[1], [0], [1]]),
        (torch.tensor([1.0, -1.0, 1.0]), [1.0, -1.0, 1.0]),
        (torch.tensor([0.5, 0.2, 0.1]), None),
        (torch.ones(3, 4, dtype=torch.long), None),
        (torch.ones(3, 6), None),
        ({"boxes": [1, 2, 3]}, None),
    ],
    ids=str,
)
def test_only_classes_become_labels(second: Any, expected: Any) -> None:
    inputs = stream(DataLoader([(X[:3], second)], batch_size=None, collate_fn=lambda batch: batch))
    assert inputs.n == 3
    labels = inputs.labels
    assert (labels.tolist() if isinstance(labels, Tensor) else labels) == expected


def test_sources_without_samples_and_labels_of_another_number_are_refused() -> None:
    with pytest.raises(BadInput, match="without samples"):
        n_samples(stream(DataLoader([], batch_size=None)))
    with pytest.raises(BadInput, match="without samples"):
        stream(iter([])).first(2)
    with pytest.raises(BadInput, match="a batch holds 3 inputs, but 2 labels"):
        n_samples(stream(DataLoader([(X[:3], Y[:2])], batch_size=None)))


def test_other_inputs_pass_through() -> None:
    for inputs in (X, X.numpy(), (X, Y), [X, Y], {"x": X}, [[1.0, 2.0]], None):
        assert opened(net(), inputs, Y) == (inputs, Y) or opened(net(), inputs, Y)[0] is inputs


def test_packed_sequences_are_refused_as_inputs() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    with pytest.raises(BadInput, match=r"PackedSequence.*padded tensor and the lengths"):
        opened(net(), packed)


@pytest.mark.parametrize("thing", [nn.Sequential(nn.Linear(2, 2)), nn.ModuleList([nn.Linear(2, 2)]), "words"])
def test_what_can_be_indexed_and_holds_no_samples_is_refused_as_inputs(thing: Any) -> None:
    """Model and inputs in the wrong order, above all: a Sequential has a length and can be indexed."""
    for call in (gf.extract, gf.locate, gf.analyze):
        with pytest.raises(gf.BadInput, match=r"must be a|is a"):
            call(nn.Linear(2, 2), thing)


def test_labels_stay_in_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small tensor kept from every batch makes a process grow by all inputs, see `row_pieces`."""
    kept: list[list[Any]] = []
    join = batch_streams._classes_and_goal
    monkeypatch.setattr(batch_streams, "_classes_and_goal", lambda labels: kept.append(labels) or join(labels))
    data = [(torch.full((3,), float(i)), i % 4) for i in range(50)]
    stream, _ = opened(nn.Linear(3, 1), DataLoader(data, batch_size=2))  # type: ignore[arg-type]
    assert stream.labels.tolist() == [i % 4 for i in range(50)]
    assert [len(labels) for labels in kept] == [1]
