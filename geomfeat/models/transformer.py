"""A small transformer classifier over tokens, vectors or image rows, with an optional padding mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models._sequence_input import as_sequence
from geomfeat.models.parameterization import scaled, seeded


class TransformerClassifier(nn.Module):
    """`embed` + learned `position`, `encoder` (torch.nn.TransformerEncoder, no dropout), masked mean, `head`."""

    def __init__(
        self, features: int, vocabulary: int | None, width: int, heads: int, depth: int, steps: int, outputs: int
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embed = nn.Linear(features, width) if vocabulary is None else nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.empty(steps, width))
        self.reset_parameters()
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def reset_parameters(self) -> None:
        """Fresh position embeddings, N(0, .02^2); the submodules have their own."""
        nn.init.normal_(self.position, std=0.02)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """(n, steps) ids, (n, steps, features) or (n, c, h, w) -> (n, outputs).

        padding_mask: (n, steps) bool, True at padding (torch's convention); padded tokens are neither attended to nor
        averaged.
        """
        x = x if self.vocabulary is not None else as_sequence(x)
        if x.shape[1] > self.position.shape[0]:
            raise BadInput(f"{x.shape[1]} steps, but the model was built for at most steps={self.position.shape[0]}")
        hidden = self.embed(x) + self.position[: x.shape[1]]
        hidden = self.encoder(hidden, src_key_padding_mask=padding_mask)
        if padding_mask is None:
            return self.head(hidden.mean(1))
        keep = (~padding_mask).to(hidden.dtype)[..., None]
        return self.head((hidden * keep).sum(1) / keep.sum(1).clamp_min(1.0))


def transformer(
    features: int = 8,
    outputs: int = 10,
    *,
    vocabulary: int | None = None,
    width: int = 32,
    heads: int = 2,
    depth: int = 2,
    steps: int = 64,
    init_scale: float = 1.0,
    seed: int | None = None,
) -> TransformerClassifier:
    """A pre-norm transformer encoder with a mean-pooled linear head. The defaults read a digit row by row.

    Args:
        features: per step; for images channels * width. vocabulary: number of token ids, for integer inputs.
        width, heads, depth: of the encoder. steps: the longest sequence.
        init_scale: factor on the initial weights outside the normalisation. seed: of the initial weights.

    Raises BadInput for sizes below 1 or a width that the heads do not divide.

    >>> mask = torch.tensor([[False, False, True]])
    >>> transformer(vocabulary=9)(torch.tensor([[3, 1, 0]]), padding_mask=mask).shape
    torch.Size([1, 10])
    """
    if min(features, outputs, width, heads, depth, steps, vocabulary or 1) < 1 or width % heads:
        raise BadInput(f"sizes must be >= 1 and width={width} a multiple of heads={heads}")
    with seeded(seed, "transformer"):
        model = TransformerClassifier(features, vocabulary, width, heads, depth, steps, outputs)
        return scaled(model, init_scale)  # pyright: ignore[reportReturnType]
