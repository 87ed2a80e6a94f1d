"""The features of layers in one forward pass, of which only (n, d) after reduction are kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geomfeat.activations._feature_sites import did_not_fire
from geomfeat.activations.checks.sequence_lengths import mask_at
from geomfeat.activations.checks.time_axis import require_samples_off_the_time_axis
from geomfeat.activations.hidden_layers import few
from geomfeat.activations.hooks import recording
from geomfeat.activations.layer_selection import module_name
from geomfeat.activations.model_state import evaluating
from geomfeat.activations.reduction import Reduction, reduce
from geomfeat.errors import LayerDidNotFire
from geomfeat.location.movement_only.ends import End, Running, require_values
from geomfeat.location.padding import fitted
from geomfeat.models.functional import call
from geomfeat.models.nested_inputs import batches, moved, n_samples
from geomfeat.models.readouts.token_masks import require_tokens, valid_tokens
from geomfeat.models.refused_inputs import explained
from geomfeat.numerics import WORKING


@dataclass(frozen=True, eq=False)
class Features:
    """By layer: (n, d) features, float64 on the CPU, reduced in float32 or wider, and how. dtype: of the network."""

    values: dict[str, Tensor]
    reduced: dict[str, str]
    dtype: torch.dtype | None


@dataclass(frozen=True, eq=False)
class Pass:
    """What is read in a forward pass, the same of both ends.

    Attributes:
        inputs: samples first. layers: names. named: those that were asked for by name, which must be called.
        how: a reduction, or None for that of `usual`. step: called with the number of samples of each batch.
    """

    inputs: Any
    layers: Sequence[str]
    named: Collection[str]
    how: Reduction | None
    batch_size: int
    seed: int
    step: Callable[[int], object]

    def features(self, end: End, device: Any, stream: bool) -> Features:
        """The features of one end; its weights are freed before it returns, unless it was given as a module."""
        with end.running(device, stream=stream) as running:
            if not stream:
                require_samples_off_the_time_axis(
                    running.network, lambda k: self._ready(few(self.inputs, k), running), running.device
                )
            found = self._read(running)
        if stream:
            require_values(found.values, end.name)
        return found

    def _read(self, running: Running) -> Features:
        net, found = running.network, _Found(self.how)
        with (
            evaluating(net, running.device, self.seed), torch.no_grad(),
            recording(net, list(self.layers), transform=found.look, lengths=found.lengths) as seen,
        ):  # fmt: skip
            for _, part in batches(self.inputs, self.batch_size):
                found.begin(part, seen)
                ready = self._ready(part, running)
                explained(net, lambda ready=ready: call(net, ready), ready)
                found.end()
                self.step(found.n)
        self._require_layers(found)
        values = {key: torch.cat(parts) for key, parts in found.parts.items()}
        return Features(values, found.reduced, running.dtype)

    @staticmethod
    def _ready(part: Any, running: Running) -> Any:
        return moved(part, running.device, running.dtype)

    def _require_layers(self, found: _Found) -> None:
        known = {module_name(key) for key in found.parts}
        silent = [layer for layer in self.layers if module_name(layer) not in known]
        must = [layer for layer in silent if layer in self.named or not found.parts]
        if must:
            raise LayerDidNotFire(found.problems.get(must[0], did_not_fire(must[0])))


def usual(tensor: Tensor) -> str:
    """The reduction of a layer's output where none is given: of (n, tokens, features) the mean over valid tokens.

    >>> usual(torch.ones(2, 3, 4)), usual(torch.ones(2, 3))
    ('token_mean', 'flatten')
    """
    return "token_mean" if tensor.ndim == 3 else "flatten"


@dataclass(eq=False)
class _Found:
    """Features as they come in, batch by batch."""

    how: Reduction | None
    lengths: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, list[Tensor]] = field(default_factory=dict)
    reduced: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    n: int = 0
    _mask: Tensor | None = None
    _seen: dict[str, Any] = field(default_factory=dict)
    _batches: int = 0

    def begin(self, part: Any, seen: dict[str, Any]) -> None:
        self.n, self._mask, self._seen = n_samples(part), valid_tokens(part), seen
        require_tokens(self._mask)

    def look(self, key: str, tensor: Tensor) -> Tensor | None:
        """The features of the first tensor with floating numbers that a layer returns; no other one is kept."""
        other = any(module_name(k) == module_name(key) and k != key for k in self._seen)
        if other or not tensor.is_floating_point() or tensor.ndim < 1:
            return None
        if tensor.size(0) != self.n:
            self.problems[module_name(key)] = (
                f"layer {key!r} gives {tensor.size(0)} rows for {self.n} samples: leave it out of layers="
            )
            return None
        mask = mask_at(key, tensor, self._mask, self.lengths)
        how = usual(tensor) if self.how is None else self.how
        if how in ("token_mean", "flatten") and not tensor.is_nested:
            # A layer that is over other positions than the tokens has no padding.
            mask = fitted(mask, tensor.shape[1]) if tensor.ndim > 2 else None
        features = reduce(tensor, how, mask=mask)
        self.reduced[key] = how if isinstance(how, str) else getattr(how, "__name__", "a function")
        return features.to("cpu", WORKING, copy=True)

    def end(self) -> None:
        """Takes in what was seen of a batch; a layer that other batches lack is dropped."""
        for key, features in self._seen.items():
            if len(self.parts.setdefault(key, [])) == self._batches:
                self.parts[key].append(features)
        self._batches += 1
        for key in [key for key, parts in self.parts.items() if len(parts) < self._batches]:
            self.problems.setdefault(module_name(key), f"layer {key!r} is called in some batches only: leave it out")
            del self.parts[key]
