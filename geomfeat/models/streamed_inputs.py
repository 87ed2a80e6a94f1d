"""Inputs that are not held in memory: they give the requested samples, or all of them batch by batch."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

# Samples that are read at a time where nothing else says how many.
READ = 256


class LazyInputs(ABC):
    """What `n_samples`, `take`, `batches` and `map_inputs` take in place of tensors; samples come first."""

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of samples."""

    @abstractmethod
    def first(self, k: int) -> Any:
        """The first `k` samples as tensors, or all where there are fewer."""

    @abstractmethod
    def take(self, rows: Tensor | slice) -> Any:
        """The samples `rows` as tensors, in this order."""

    @abstractmethod
    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[slice, Any]]:
        """(rows, inputs of these rows) of samples start to stop, at most `size` at a time; rows count from start."""

    @property
    def again(self) -> bool:
        """Whether they can be read several times, in the same order."""
        return True

    def map(self, function: Callable[[Any], Any]) -> LazyInputs:
        """The same inputs with `function` applied to everything that is read."""
        return _Mapped(self, function)

    def checksum(self) -> str:
        """SHA-256 of the samples in order, whatever the batches."""
        sums: dict[str, Any] = {}
        for _, batch in self.batches(READ):
            for path, tensor in leaves_of(batch):
                header = f"{path}{tuple(tensor.shape[1:])}{tensor.dtype}"
                sums.setdefault(header, hashlib.sha256()).update(bytes_of(tensor))
        parts = [f"{header}{found.hexdigest()}" for header, found in sums.items()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


class _Mapped(LazyInputs):
    def __init__(self, base: LazyInputs, function: Callable[[Any], Any]) -> None:
        self._base, self._function = base, function

    @property
    def n(self) -> int:
        return self._base.n

    @property
    def again(self) -> bool:
        return self._base.again

    def first(self, k: int) -> Any:
        return self._function(self._base.first(k))

    def take(self, rows: Tensor | slice) -> Any:
        return self._function(self._base.take(rows))

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[slice, Any]]:
        for rows, batch in self._base.batches(size, start, stop):
            yield rows, self._function(batch)


class Rows(LazyInputs):
    """Chosen samples of other lazy inputs, in this order, read when they are needed."""

    def __init__(self, base: LazyInputs, rows: Tensor) -> None:
        self._base, self._rows = base, rows.cpu()

    @property
    def n(self) -> int:
        return len(self._rows)

    def first(self, k: int) -> Any:
        return self.take(slice(0, k))

    def take(self, rows: Tensor | slice) -> Any:
        return self._base.take(self._rows[rows.cpu() if isinstance(rows, Tensor) else rows])

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[slice, Any]]:
        stop = self.n if stop is None else min(stop, self.n)
        for begin in range(start, stop, size):
            end = min(stop, begin + size)
            yield slice(begin - start, end - start), self.take(slice(begin, end))


def leaves_of(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """(path, tensor) of every tensor of nested inputs, in order."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves_of(inner, f"{path}[{key}]")
    elif isinstance(value, tuple | list):
        for i, inner in enumerate(value):
            yield from leaves_of(inner, f"{path}[{i}]")


def bytes_of(tensor: Tensor) -> Any:
    """The memory of a tensor's values, in order."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def in_batches(inputs: Any) -> bool:
    """Whether something gives samples or batches one after the other, and is no array or structure of arrays."""
    if isinstance(inputs, Tensor | tuple | list | Mapping | str | bytes | LazyInputs) or hasattr(inputs, "__array__"):
        return False
    # Sequential and ModuleList can be indexed, as sparse matrices can, and are no samples either.
    if isinstance(inputs, nn.Module) or hasattr(inputs, "toarray"):
        return False
    indexed = hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__")
    return isinstance(inputs, Iterable | Dataset) or indexed
