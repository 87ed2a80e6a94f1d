"""What goes into a network during an extraction: samples with their mask, in the layout that the network takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations.checks.sequence_lengths import differing_rows, lengths_of
from geomfeat.activations.hidden_layers import few, home
from geomfeat.errors import BadInput
from geomfeat.models.nested_inputs import batches, map_inputs, moved, n_samples, take
from geomfeat.models.readouts.token_masks import valid_tokens
from geomfeat.models.streamed_inputs import READ, LazyInputs
from geomfeat.numerics import as_tensor

HEAD = 64


@dataclass(frozen=True, eq=False)
class Feed:
    """Inputs of an extraction, samples first.

    Attributes:
        inputs: tensors, or inputs that are read batch by batch. mask: (n, tokens), or None: then each batch's own.
        batch_dim: where the network wants the samples, in tensors of more dimensions; others have them first.
    """

    inputs: Any
    mask: Tensor | None = None
    batch_dim: int = 0

    @property
    def n(self) -> int:
        """Number of samples."""
        return n_samples(self.inputs)

    @property
    def lazy(self) -> bool:
        """Whether the inputs are read batch by batch."""
        return isinstance(self.inputs, LazyInputs)

    def take(self, rows: Tensor) -> Feed:
        """Some of the samples, in memory."""
        return replace(self, inputs=take(self.inputs, rows), mask=None if self.mask is None else self.mask[rows])

    def first(self, k: int) -> Feed:
        """The first `k` samples, in memory; repeated where there are fewer."""
        mask = None if self.mask is None else self.mask[torch.arange(k) % len(self.mask)]
        return replace(self, inputs=few(self.inputs, k), mask=mask)

    def spread(self, k: int) -> Feed:
        """`k` samples from first to last, in memory, of lengths that differ; repeated where there are fewer.

        Of inputs that are read batch by batch only the beginning is used.
        """
        return self.head().take(self.spread_rows(k))

    def spread_rows(self, k: int) -> Tensor:
        """Which samples (k,) `spread` takes."""
        if isinstance(self.inputs, LazyInputs):
            return self.head().spread_rows(k)
        n = self.n
        if n < k or k < 2:
            return torch.arange(k) % n
        return differing_rows(lengths_of(self.inputs, self.mask), n, k)

    def head(self) -> Feed:
        """The beginning of inputs that are read batch by batch, in memory; others as they are."""
        if not isinstance(self.inputs, LazyInputs):
            return self
        inputs = self.inputs.first(HEAD)
        return replace(self, inputs=inputs, mask=None if self.mask is None else self.mask[: n_samples(inputs)])

    def batches(self, size: int, start: int, stop: int | None) -> Iterator[tuple[slice, Any, Tensor | None]]:
        """(rows, inputs, mask) of samples start to stop, at most `size` at a time; rows count from start."""
        if isinstance(self.inputs, LazyInputs):
            parts = self.inputs.batches(size, start, stop)
        else:
            parts = batches(take(self.inputs, slice(start, stop)), size)
        for rows, part in parts:
            mask = valid_tokens(part) if self.mask is None else self.mask[start + rows.start : start + rows.stop]
            yield rows, part, mask

    def own_mask(self) -> Tensor | None:
        """The mask of all samples (of inputs in memory: their own, if none was given)."""
        return self.mask if self.mask is not None or self.lazy else valid_tokens(self.inputs)

    def positions(self) -> Tensor | None:
        """(tokens,), true for those that are no padding in some sample; None where all are, or that is not known.

        Lazy inputs that bring masks along are read for it, where they can be read again.
        """
        mask = self.own_mask()
        if mask is None and isinstance(self.inputs, LazyInputs) and self.inputs.again:
            masks = self._masks_of_batches(self.inputs)
            mask = torch.cat(masks) if len({part.shape[1] for part in masks}) == 1 else None
        kept = None if mask is None else mask.any(0)
        return None if kept is None or bool(kept.all()) else kept

    def _masks_of_batches(self, inputs: LazyInputs) -> list[Tensor]:
        if valid_tokens(inputs.first(1)) is None:
            return []
        return [mask for _, part in inputs.batches(READ) if (mask := valid_tokens(part)) is not None]

    def with_whole_mask(self) -> Feed:
        """With the masks that the batches of lazy inputs bring along read into one."""
        masks = self._masks_of_batches(self.inputs) if self.mask is None and isinstance(self.inputs, LazyInputs) else []
        if not masks:
            return self
        if len({mask.shape[1] for mask in masks}) > 1:
            raise BadInput(
                "attention masks of several lengths cannot be saved in a store: pad all batches to one length"
            )
        return replace(self, mask=torch.cat(masks))

    def ready(self, batch: Any, model: nn.Module) -> Any:
        """A batch in the layout, on the device and in the precision of the model."""
        return moved(with_samples_at(batch, self.batch_dim), *home(model))


def samples_first(inputs: Any, batch_dim: int) -> Any:
    """Inputs whose samples lie along `batch_dim` (along the first axis where a tensor has no such axis) as (n, ...)."""
    return map_inputs(inputs, lambda t: t.movedim(batch_dim, 0) if t.ndim > batch_dim else t) if batch_dim else inputs


def with_samples_at(inputs: Any, batch_dim: int) -> Any:
    """The other way round: (n, ...) with the samples along `batch_dim`."""
    return map_inputs(inputs, lambda t: t.movedim(0, batch_dim) if t.ndim > batch_dim else t) if batch_dim else inputs


def checked_mask(mask: Any, n: int | None) -> Tensor | None:
    """A mask as booleans (n, tokens); BadInput for other shapes."""
    if mask is None:
        return None
    mask = as_tensor(mask, "mask") != 0
    if mask.ndim != 2 or n not in (None, mask.shape[0]):
        raise BadInput(f"mask must be ({'n' if n is None else n}, tokens), got shape {tuple(mask.shape)}")
    return mask
