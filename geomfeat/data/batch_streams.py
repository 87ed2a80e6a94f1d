"""Samples that come batch by batch: from a DataLoader, a Dataset, or anything that can be iterated over."""

from __future__ import annotations

import itertools
import logging
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import (
    DataLoader,
    Dataset as TorchDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from geomfeat.data._batch import Arguments, joined, split
from geomfeat.data.dataset import Dataset, classes_or_targets
from geomfeat.data.row_pieces import RowPieces
from geomfeat.errors import BadInput
from geomfeat.models.nested_inputs import map_inputs, n_samples, shapes_of, take
from geomfeat.models.streamed_inputs import READ, LazyInputs, bytes_of, in_batches, leaves_of
from geomfeat.types import Snapshot

_log = logging.getLogger(__name__)

RANDOM = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
READ_AGAIN = (
    "give what can be read again: a torch Dataset, a DataLoader (of a list of batches: DataLoader(batches, "
    "batch_size=None)), or one tensor (torch.cat(list_of_batches))"
)


class Stream(LazyInputs):
    """A source of batches as inputs, read again for every pass; with labels if the batches hold them.

    Every pass must give the same samples. The global random state is left alone, also by loaders that shuffle.
    """

    def __init__(self, source: Any, arguments: Arguments, batch_dim: int = 0) -> None:
        self._source, self._arguments, self._batch_dim = source, arguments, batch_dim
        self._once, self._spent = isinstance(source, Iterator), False
        self._random = torch.get_rng_state()
        self._front: list[tuple[Any, Any]] = []
        self._rest: Iterator[tuple[Any, Any]] | None = None
        self._sums: list[int] = []
        self._cursor: _Cursor | None = None
        self._n: int | None = None
        self._labels: Any = None
        self._goal: Any = None

    @property
    def n(self) -> int:
        """Number of samples; they are counted in a separate pass if necessary."""
        if self._n is None:
            self.require_again("counting the samples")
            for _ in self._pass():
                pass
        assert self._n is not None
        return self._n

    @property
    def expected(self) -> int | None:
        """Number of samples as far as it is known without reading them."""
        try:
            return self._n if self._n is not None else len(self._source.sampler)
        except (AttributeError, TypeError):
            return None

    @property
    def labels(self) -> Any:
        """Classes (n,) of the batches as they were given, or None where they hold none; known after a whole pass."""
        return self._labels if self.n else None

    @property
    def goal(self) -> Any:
        """The same, or the values (n,) or (n, C) that the batches hold in their place."""
        return self._goal if self.n else None

    @property
    def shuffled(self) -> bool:
        """Whether the source is a DataLoader that draws the order of the samples."""
        samplers = [getattr(self._source, "sampler", None), getattr(self._source, "batch_sampler", None)]
        samplers.append(getattr(samplers[1], "sampler", None))
        return any(isinstance(s, RANDOM) or getattr(s, "shuffle", False) is True for s in samplers)

    @property
    def again(self) -> bool:
        """Whether the samples can be read several times, in the same order."""
        return not self._once and not self.shuffled

    def require_again(self, why: str) -> None:
        """BadInput where the samples cannot be read several times, in the same order."""
        kind = type(self._source).__name__
        if self._once:
            raise BadInput(f"inputs is a {kind}, which can be read once only, but {why} reads it again: {READ_AGAIN}")
        if self.shuffled:
            raise BadInput(
                f"inputs is a {kind} that draws a new order for every pass, but {why} needs the same samples in the "
                "same order several times: give it with shuffle=False (or a sampler in a fixed order)"
            )

    def first(self, k: int) -> Any:
        """The first `k` samples, or all if there are fewer; the next pass continues from there."""
        if not self._front and self._rest is None:
            self._rest = self._opened()
        while self._rest is not None and sum(n_samples(inputs) for inputs, _ in self._front) < k:
            batch = next(self._rest, None)
            if batch is None:
                break
            self._front.append(batch)
        if not self._front:
            raise BadInput(f"inputs is a {type(self._source).__name__} without samples")
        parts, kind = [inputs for inputs, _ in self._front], _kind(self._front[0][0])
        same_kind = list(itertools.takewhile(lambda part: _kind(part) == kind, parts))
        return take(joined(same_kind), slice(0, k))

    def take(self, rows: Tensor | slice) -> Any:
        """The samples `rows`, in this order, in memory."""
        index = torch.arange(self.n)[rows.cpu() if isinstance(rows, Tensor) else rows]
        wanted = index.unique()
        start, stop, parts = int(wanted[0]), int(wanted[-1]) + 1, []
        for span, part in self.batches(READ, start, stop):
            inside = wanted[(wanted >= start + span.start) & (wanted < start + span.stop)]
            if len(inside):
                parts.append(take(part, inside - start - span.start))
        return take(joined(parts), torch.searchsorted(wanted, index))

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[slice, Any]]:
        """(rows, inputs) of `size` samples at a time (fewer at the end, or where the padding changes).

        Ranges that follow one another are read in one pass.
        """
        cursor = self._cursor
        if cursor is None or cursor.position > start:
            cursor = _Cursor(self._pass())
        self._cursor = None
        cursor.skip_to(start)
        while stop is None or cursor.position < stop:
            begin = cursor.position
            part = cursor.read(size if stop is None else min(size, stop - begin))
            if part is None:
                return
            yield slice(begin - start, cursor.position - start), part
        self._cursor = cursor

    def _pass(self) -> Iterator[Any]:
        """The inputs of all batches. The first whole pass counts the samples and stores the labels."""
        front, rest = (self._front, self._rest) if self._rest is not None else ([], self._opened())
        self._rest = None
        n, labels, others = 0, RowPieces(), []
        for number, (inputs, given) in enumerate(_chained(front, rest)):
            self._require_same(number, inputs)
            n += n_samples(inputs)
            if isinstance(given, Tensor) and given.layout is torch.strided and not others:
                labels.add(given)
            else:
                others.append(given)
            yield inputs
        if not n:
            raise BadInput(f"inputs is a {type(self._source).__name__} without samples")
        if self._n is None:
            self._n, (self._labels, self._goal) = n, _classes_and_goal([*labels.pieces(), *others])

    def read(self) -> Iterator[tuple[Any, Any]]:
        """(inputs, labels or None) of every batch, in one pass; BadInput where there is none."""
        if not (found := list(self._opened())):
            raise BadInput(f"inputs is a {type(self._source).__name__} without samples")
        return iter(found)

    def _opened(self) -> Iterator[tuple[Any, Any]]:
        if self._once and self._spent:
            self.require_again("this call")
        self._spent = True
        source = self._quietly(lambda: iter(self._source))
        end = object()
        while (batch := self._quietly(lambda: next(source, end))) is not end:
            inputs, labels = split(batch, self._arguments)
            if self._batch_dim:
                inputs = map_inputs(inputs, lambda t: t.movedim(self._batch_dim, 0) if t.ndim > self._batch_dim else t)
            yield inputs, _checked(labels, n_samples(inputs))

    def _quietly(self, step: Callable[[], Any]) -> Any:
        """A step of the source with a separate random state: a loader draws seeds even without shuffling."""
        before = torch.get_rng_state()
        torch.set_rng_state(self._random)
        try:
            return step()
        finally:
            self._random = torch.get_rng_state()
            torch.set_rng_state(before)

    def _require_same(self, number: int, inputs: Any) -> None:
        if self._once:
            return
        found = 0
        for _, tensor in leaves_of(inputs):
            found = zlib.crc32(bytes_of(tensor), found)
        if number == len(self._sums):
            self._sums.append(found)
        elif self._sums[number] != found:
            raise BadInput(
                f"batch {number} of the inputs holds other samples in a second pass than in the first: they are "
                "shuffled or changed at random (augmentation) every time. Give them in a fixed order (shuffle=False) "
                "and without random changes"
            )


def _chained(front: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    yield from front
    yield from rest


class _Cursor:
    """Reads batches of any size as batches of another, from the beginning on."""

    def __init__(self, parts: Iterator[Any]) -> None:
        self.position = 0
        self._parts, self._waiting, self._later = parts, [], None

    def skip_to(self, start: int) -> None:
        while self.position < start and self.read(min(READ, start - self.position)) is not None:
            pass

    def read(self, most: int) -> Any:
        """The next samples, at most so many; None at the end."""
        while self._later is None and sum(map(n_samples, self._waiting)) < most:
            part = next(self._parts, None)
            if part is None:
                break
            if self._waiting and _kind(part) != _kind(self._waiting[0]):
                self._later = part
            else:
                self._waiting.append(part)
        if not self._waiting:
            return None
        found = joined(self._waiting)
        n = n_samples(found)
        if n > most:
            self._waiting, found = [take(found, slice(most, None))], take(found, slice(0, most))
        else:
            self._waiting, self._later = [] if self._later is None else [self._later], None
        self.position += min(n, most)
        return found


def _kind(inputs: Any) -> Any:
    return [(shape[1:], dtype) for shape, dtype in shapes_of(inputs)]


def _checked(labels: Any, n: int) -> Any:
    """Labels of one batch as a tensor, or as a list of names; None for what is neither."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biuf":
        labels = torch.from_numpy(labels)
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, Tensor | list | tuple) or (isinstance(labels, Tensor) and labels.ndim == 0):
        return None
    if len(labels) != n:
        raise BadInput(f"a batch holds {n} inputs, but {len(labels)} labels")
    return labels


def _classes_and_goal(labels: list[Any]) -> tuple[Any, Any]:
    """The labels of all batches as one: as classes, or None where they are none; and as what was to be learned.

    Values of a regression are no classes; images to be restored are neither.
    """
    if any(part is None for part in labels):
        return None, None
    if not all(isinstance(part, Tensor) for part in labels):
        names = [label for part in labels for label in part]
        return names, names
    if len({part.shape[1:] for part in labels}) > 1:
        return None, None
    whole = torch.cat(labels)
    fractions = whole.is_floating_point() and not bool((whole == whole.round()).all())
    if (whole.ndim == 1 or whole.shape[1:] == (1,)) and not fractions:
        return whole, whole
    _log.warning(
        "the second part of the batches has shape %s and type %s, which are no classes (one whole number for each "
        "sample): the features have no labels", tuple(whole.shape), whole.dtype,
    )  # fmt: skip
    return None, whole if whole.ndim <= 2 and whole.is_floating_point() else None


def collected(source: Any) -> Dataset:
    """All samples of a DataLoader, Dataset or iterator of batches, in memory, with the classes or values they hold.

    Names of classes are those of the source (`classes`, as folders of images have them). The batches are the arguments
    of a network of one argument, followed by labels; see `split`.
    """
    stream, _ = opened(None, source)
    batches = list(stream.read())
    goal = _classes_and_goal([labels for _, labels in batches])[1]
    named = next((s for s in (source, getattr(source, "dataset", None)) if hasattr(s, "classes")), None)
    names = tuple(map(str, named.classes)) if named is not None and isinstance(named.classes, list | tuple) else ()
    known, values = (None, None) if goal is None else classes_or_targets(goal, "the labels of the batches")
    labels, classes = (None, ()) if known is None else (known.codes, known.classes)
    return Dataset(joined([inputs for inputs, _ in batches]), labels, classes=classes or names, targets=values)


def opened(
    model: Any, inputs: Any, labels: Any = None, *, batch_size: int = READ, batch_dim: int = 0
) -> tuple[Any, Any]:
    """(inputs, labels): a DataLoader, Dataset or iterator of batches as a `Stream`, and all else as it is.

    A batch is a tensor, the arguments of `model` as a tuple or mapping, or these followed by labels; see `split`.
    """
    if isinstance(inputs, PackedSequence):
        raise BadInput(
            "inputs is a PackedSequence, of which samples cannot be taken: give the padded tensor and the lengths, and "
            "pack them in the forward pass"
        )
    if isinstance(inputs, Dataset):
        known = inputs.known if labels is None and inputs.labels is not None else labels
        return opened(model, inputs.inputs, known, batch_size=batch_size, batch_dim=batch_dim)
    if not in_batches(inputs):
        return inputs, labels
    if not isinstance(inputs, DataLoader) and (hasattr(inputs, "__getitem__") or isinstance(inputs, TorchDataset)):
        inputs = DataLoader(inputs, batch_size=batch_size)
    stream = Stream(inputs, Arguments.of(model.model if isinstance(model, Snapshot) else model), batch_dim)
    if stream.shuffled and labels is not None:
        raise BadInput(
            "inputs is a DataLoader that shuffles, so labels= would not belong to its samples: give it with "
            "shuffle=False, or a Dataset that holds the labels"
        )
    return stream, labels


def reread(model: Any, inputs: Any, labels: Any = None, *, why: str, batch_size: int = READ) -> tuple[Any, Any]:
    """`opened` for what reads its inputs several times; labels that the batches hold are read, if none are given.

    `why`: what reads them, for the message. Raises BadInput for what can be read once only, or comes shuffled.
    """
    if isinstance(inputs, Dataset) and labels is None:
        labels = inputs.known
    inputs, labels = opened(model, inputs, labels, batch_size=batch_size)
    if isinstance(inputs, Stream):
        inputs.require_again(why)
        labels = inputs.goal if labels is None else labels
    return inputs, labels
