"""The two ends of a training, in memory or on disk: their weights one by one, and the network while it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from geomfeat.activations.hidden_layers import home, placed
from geomfeat.activations.layer_selection import modules_by_name
from geomfeat.errors import BadInput, CheckpointMismatch
from geomfeat.models.effective_weights import effective_weights
from geomfeat.models.functional import unwrapped
from geomfeat.models.sources._load_model import source_of
from geomfeat.models.sources.block_streaming import with_weights
from geomfeat.models.sources.lazy_weights import LazyWeights, lazy_weights
from geomfeat.numerics import resolve_device
from geomfeat.types import Snapshot

SHOWN = 5  # weights that differ in a message


@dataclass(frozen=True, eq=False)
class Running:
    """A network while it can be called, where it takes its inputs, and in which precision."""

    network: nn.Module
    device: torch.device
    dtype: torch.dtype | None


class End(Protocol):
    """One end: what it is called in messages, its modules, its weights, and the network to run."""

    @property
    def name(self) -> str: ...

    @property
    def outline(self) -> nn.Module:
        """The network, maybe without values."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of the weights it computes with, a tied one once."""
        ...

    def read(self, name: str) -> Tensor:
        """One weight, as stored."""
        ...

    def running(self, device: Any, *, stream: bool) -> Any:
        """A context manager that gives a `Running`; nothing of it stays in memory that was not there before."""
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """A module that was given. See `End`."""

    name: str
    outline: nn.Module

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        found, seen = dict[str, Tensor](), set[Any]()
        for path, module in {"": self.outline, **modules_by_name(self.outline)}.items():
            for own, value in effective_weights(module).items():
                place = (value.data_ptr(), tuple(value.shape))
                if value.is_meta:
                    raise BadInput(f"{self.name}: {path}.{own} has no values (on the meta device): load its weights")
                if place not in seen or not value.numel():
                    found[f"{path}.{own}".lstrip(".")] = value
                seen.add(place)
        return found

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self._weights.items()}

    def read(self, name: str) -> Tensor:
        return self._weights[name]

    @contextmanager
    def running(self, device: Any, *, stream: bool) -> Iterator[Running]:
        if stream:
            raise BadInput(
                f"stream=True, but {self.name} is a module, whose weights are all in memory: give both as hf:FOLDER, "
                "or leave stream out"
            )
        network = placed(self.outline, device)
        yield Running(network, *home(network))


@dataclass(frozen=True, eq=False)
class OnDisk:
    """A folder of `save_pretrained`. See `End`."""

    weights: LazyWeights

    @property
    def name(self) -> str:
        return self.weights.where

    @property
    def outline(self) -> nn.Module:
        return self.weights.network

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.weights.shapes

    def read(self, name: str) -> Tensor:
        return self.weights.read([name])[name]

    @contextmanager
    def running(self, device: Any, *, stream: bool) -> Iterator[Running]:
        there = resolve_device("cpu" if device is None else device)
        with with_weights(self.weights, there, by_block=stream) as network:
            yield Running(network, there, self.weights.dtype or home(network)[1])


def end_of(model: Any, argument: str) -> End:
    """A model as an end: a module, a Snapshot, or the SPEC of a folder."""
    if isinstance(model, nn.Module | Snapshot):
        return InMemory(argument, unwrapped(model.model if isinstance(model, Snapshot) else model))
    return OnDisk(lazy_weights(source_of(model), argument))


def require_same_weights(before: End, after: End) -> None:
    """CheckpointMismatch, with the first names and shapes, for two architectures; BadInput for no weights."""
    old, new = before.shapes, after.shapes
    wrong = [name for name in dict.fromkeys([*new, *old]) if old.get(name) != new.get(name)]
    if wrong:
        listed = "; ".join(
            f"{n} {old.get(n, 'missing')} in {before.name}, {new.get(n, 'missing')} in {after.name}"
            for n in wrong[:SHOWN]
        )
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise CheckpointMismatch(
            f"initial and model are of different architectures: {len(wrong)} of their weights differ in name or shape, "
            f"{listed}{more}: give two checkpoints of one network"
        )
    if not new:
        raise BadInput(f"{after.name} has no weights that could move")


def require_values(features: Mapping[str, Tensor], name: str) -> None:
    """BadInput where a network that ran one block at a time met weights that were not there: they are NaN.

    Its weights on disk are known to be finite.

    >>> require_values({"h.0": torch.ones(2)}, "model")
    """
    odd = [layer for layer, x in features.items() if not bool(torch.isfinite(x).all())]
    if odd:
        raise BadInput(
            f"stream=True: layer {odd[0]!r} of {name} computes NaN or infinite values from finite weights. The network "
            "uses weights of a block outside of the block's own call, or its numbers overflow: leave stream out, which "
            "tells the one from the other"
        )
