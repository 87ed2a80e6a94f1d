"""How the sequence models see their inputs: token ids, vectors per step, or the rows of an image."""

from __future__ import annotations

from torch import Tensor

from geomfeat.errors import BadInput


def as_sequence(x: Tensor) -> Tensor:
    """(n, steps, features) from the same, or from images (n, c, h, w): row after row, features c * w."""
    if x.ndim == 4:
        return x.permute(0, 2, 1, 3).flatten(2)
    if x.ndim != 3:
        raise BadInput(
            f"a sequence model takes (samples, steps, features) or images (samples, channels, height, width), "
            f"got shape {tuple(x.shape)}"
        )
    return x
