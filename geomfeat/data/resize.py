"""Images of one data set in the shape of another's, for a network that was built for those."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from geomfeat.errors import BadInput


def images_like(images: Tensor, shape: Sequence[int]) -> Tensor:
    """`images` (n, c, h, w) as (n, *shape): grey repeated in every channel or channels averaged to grey, then resized.

    Resizing is bilinear, with smoothing where images shrink. Samples that already have the shape are unchanged,
    whatever they are. Raises BadInput for other samples that are no images, and for channels that are neither equal,
    nor one on either side.

    >>> import torch
    >>> images_like(torch.zeros(2, 1, 28, 28), (3, 32, 32)).shape
    torch.Size([2, 3, 32, 32])
    """
    own, wanted = tuple(images.shape[1:]), tuple(shape)
    if own == wanted:
        return images
    if len(own) != 3 or len(wanted) != 3:
        raise BadInput(f"samples of shape {own} cannot be made {wanted}: both must be images (channels, height, width)")
    channels = wanted[0]
    if own[0] != channels and 1 not in (own[0], channels):
        raise BadInput(f"images of {own[0]} channels cannot be given {channels}: one of the two must be greyscale")
    if own[0] != channels:
        images = images.expand(-1, channels, -1, -1) if own[0] == 1 else images.mean(1, keepdim=True)
    if own[1:] == wanted[1:]:
        return images.contiguous()
    return F.interpolate(images, wanted[1:], mode="bilinear", antialias=True)
