"""Inputs that are not held in memory: they give the samples that are asked for, or all of them batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


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

    def map(self, function: Callable[[Any], Any]) -> LazyInputs:
        """The same inputs with `function` applied to everything that is read."""
        return _Mapped(self, function)


class _Mapped(LazyInputs):
    def __init__(self, base: LazyInputs, function: Callable[[Any], Any]) -> None:
        self._base, self._function = base, function

    @property
    def n(self) -> int:
        return self._base.n

    def first(self, k: int) -> Any:
        return self._function(self._base.first(k))

    def take(self, rows: Tensor | slice) -> Any:
        return self._function(self._base.take(rows))

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[slice, Any]]:
        for rows, batch in self._base.batches(size, start, stop):
            yield rows, self._function(batch)
