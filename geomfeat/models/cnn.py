"""A small convolutional network with named layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.parameterization import (
    activation as make_activation,
    check_parameterization,
    conv_layer,
    linear_layer,
    scaled,
    seeded,
)


def cnn(
    image: Sequence[int] = (1, 8, 8),
    channels: Sequence[int] = (32, 64),
    outputs: int = 10,
    *,
    kernel: int = 3,
    activation: str = "relu",
    bias: bool = True,
    parameterization: str = "standard",
    init_scale: float = 1.0,
    seed: int | None = None,
) -> nn.Sequential:
    """`conv1`, `act1`, `conv2`, `act2`, ..., `flatten`, `head`; every convolution but the first halves the image.

    Args:
        image: (channels, height, width) of one sample. The defaults fit the digits.
        channels: of the convolutions. kernel: their odd side; padding kernel // 2.
        parameterization, init_scale, seed: as in `geomfeat.models.mlp.mlp`.

    Raises BadInput for an image that is not three positive sizes, no channels, or an even kernel.

    >>> import torch
    >>> cnn()(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    check_parameterization(parameterization)
    if len(image) != 3 or min(image) < 1:
        raise BadInput(f"image={tuple(image)} must be (channels, height, width), each at least 1")
    if not channels or min(channels) < 1 or kernel < 1 or kernel % 2 == 0:
        raise BadInput(f"channels={tuple(channels)} must be one or more sizes >= 1, and kernel={kernel} odd")
    before, height, width = image
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with seeded(seed, "cnn"):
        for i, after in enumerate(channels, start=1):
            stride = 1 if i == 1 else 2
            act, gain = make_activation(activation)
            layers[f"conv{i}"] = conv_layer(
                before, after, kernel, parameterization, stride=stride, bias=bias, gain=gain
            )
            layers[f"act{i}"] = act
            before, height, width = after, -(-height // stride), -(-width // stride)
        layers["flatten"] = nn.Flatten()
        layers["head"] = linear_layer(before * height * width, outputs, parameterization, bias=bias)
        return scaled(nn.Sequential(layers), init_scale)  # pyright: ignore[reportReturnType]
