"""Embeddings: a linear map of one-hot tokens, so two positions meet only where their tokens are equal."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from geomfeat.tangent.layerwise.sample_axis import SampleAxis


@dataclass(frozen=True, eq=False)
class EmbeddingTerm:
    """Columns of scale * weight (d, tokens) looked up by `indices` (any shape); `padding` has no gradient."""

    weight: Tensor
    indices: Tensor
    padding: int
    scale: float = 1.0

    def scaled(self, number: float) -> "EmbeddingTerm":
        """See `rules`; inputs are whole numbers, so the gradients are scaled."""
        return replace(self, scale=self.scale * number)

    def oriented(self, delta: Tensor) -> Tensor:
        """(*indices, d)."""
        return delta

    def deltas(self, delta: Tensor, samples: SampleAxis) -> Tensor:
        """(n, 1, d, positions)."""
        delta = delta * (self.scale * (self.indices != self.padding).to(delta.dtype))[..., None]
        return samples.split(delta).flatten(1, -2).transpose(1, 2)[:, None]

    def inputs(self, samples: SampleAxis) -> Tensor:
        """(n, positions) tokens: whole numbers stand for one-hot inputs."""
        return samples.split(self.indices).flatten(1)


def added_to_all(node: Any, position: int, lookup: Any, view: Tensor) -> EmbeddingTerm | None:
    """A look-up for all samples at once, such as that of positions, which is added to a tensor of every sample."""
    if position == 1 and node._saved_alpha != 1:
        return None
    found = embedding(lookup, 0, view)
    # Every sample looked up the same rows, so that each has the gradients of its own entries of the sum.
    shape = node._input_metadata[0].shape[:-1]
    return None if found is None else replace(found, indices=found.indices.expand(shape))


def embedding(node: Any, position: int, view: Tensor) -> EmbeddingTerm | None:
    """A look-up whose gradient is a plain sum over occurrences."""
    if node._saved_scale_grad_by_freq or node._saved_sparse:
        return None
    padding = node._saved_padding_idx
    return EmbeddingTerm(view.T, node._saved_indices, padding - 2**64 if padding >= 2**63 else padding)
