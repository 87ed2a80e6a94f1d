"""A plain stack of convolutions in stages that halve the image, as in VGG, of any width."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from geomfeat.errors import BadInput, near
from geomfeat.models.parameterization import (
    activation as make_activation,
    check_parameterization,
    conv_layer,
    linear_layer,
    scaled,
    seeded,
)
from geomfeat.models.residual import NORMS


def vgg(
    image: Sequence[int] = (1, 8, 8),
    channels: Sequence[int] = (16, 32, 64),
    outputs: int = 10,
    *,
    convs: int | Sequence[int] = 1,
    norm: str = "none",
    activation: str = "relu",
    bias: bool = True,
    parameterization: str = "standard",
    init_scale: float = 1.0,
    seed: int | None = None,
) -> nn.Sequential:
    """Stages of `conv1_1`, (`norm1_1`), `act1_1`, ..., `pool1` (maximum of 2 x 2), then `flatten` and `head`.

    Args:
        image: (channels, height, width) of one sample. channels: of the convolutions, 3 x 3, by stage.
        convs: so many convolutions in every stage, or in each. VGG-11 for 32 x 32 images is channels (64, 128, 256,
            512, 512) with convs (1, 1, 2, 2, 2).
        norm: before the activation: "none", "batch", "layer" or "group".
        parameterization, init_scale, seed: as in `geomfeat.models.mlp.mlp`.

    Raises BadInput for sizes below 1, more stages than the image can be halved, or an unknown norm.

    Source: Simonyan and Zisserman 2015 (arXiv 1409.1556), table 1, without the hidden fully connected layers.

    >>> import torch
    >>> vgg(channels=(4, 8), norm="batch")(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    check_parameterization(parameterization)
    repeats = _checked(image, channels, convs, norm)
    before, height, width = image
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with seeded(seed, "vgg"):
        for stage, (after, count) in enumerate(zip(channels, repeats, strict=True), start=1):
            for i in range(1, count + 1):
                act, gain = make_activation(activation)
                layers[f"conv{stage}_{i}"] = conv_layer(before, after, 3, parameterization, bias=bias, gain=gain)
                if norm != "none":
                    layers[f"norm{stage}_{i}"] = NORMS[norm](after)
                layers[f"act{stage}_{i}"], before = act, after
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
        layers["flatten"] = nn.Flatten()
        layers["head"] = linear_layer(before * height * width, outputs, parameterization, bias=bias)
        return scaled(nn.Sequential(layers), init_scale)  # pyright: ignore[reportReturnType]


def _checked(image: Sequence[int], channels: Sequence[int], convs: int | Sequence[int], norm: str) -> list[int]:
    """How many convolutions each stage has; BadInput for what cannot be built."""
    if norm not in NORMS:
        raise BadInput(f"no norm {norm!r}; near: {near(norm, NORMS)}. All: {', '.join(NORMS)}")
    if len(image) != 3 or min(image) < 1:
        raise BadInput(f"image={tuple(image)} must be (channels, height, width), each at least 1")
    if not channels or min(channels) < 1:
        raise BadInput(f"channels={tuple(channels)} must be one or more sizes >= 1")
    repeats = [convs] * len(channels) if isinstance(convs, int) else list(convs)
    if len(repeats) != len(channels) or min(repeats) < 1:
        raise BadInput(f"convs={convs} must be at least 1, or one such number for each of {len(channels)} stages")
    if min(image[1:]) < 2 ** len(channels):
        raise BadInput(
            f"image={tuple(image)} cannot be halved by each of {len(channels)} stages: give fewer channels, or images "
            f"of at least {2 ** len(channels)} pixels a side"
        )
    return repeats
