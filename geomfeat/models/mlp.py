"""A multilayer perceptron with named layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.parameterization import (
    activation as make_activation,
    check_parameterization,
    linear_layer,
    scaled,
    seeded,
)


def mlp(
    inputs: int = 64,
    hidden: Sequence[int] = (256, 256),
    outputs: int = 10,
    *,
    activation: str = "relu",
    bias: bool = True,
    parameterization: str = "standard",
    init_scale: float = 1.0,
    seed: int | None = None,
) -> nn.Sequential:
    """Flatten, then `fc1`, `act1`, `fc2`, `act2`, ..., `head`. The defaults fit the digits.

    Args:
        inputs: features per sample, all axes but the first counted together.
        hidden: widths of the hidden layers; none gives a linear model.
        parameterization: "standard" or "ntk", see `geomfeat.models.parameterization`.
        init_scale: factor on all initial weights and biases. seed: of the initial weights; None draws from torch's
            global generator, so that every call gives fresh ones.

    Raises BadInput for a width below 1, or an unknown activation or parameterization.

    >>> import torch
    >>> mlp()(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    check_parameterization(parameterization)
    widths = [inputs, *hidden, outputs]
    if min(widths) < 1:
        raise BadInput(f"every width must be at least 1, got inputs, hidden, outputs = {widths}")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    with seeded(seed, "mlp"):
        for i, (fan_in, width) in enumerate(zip(widths[:-2], hidden, strict=True), start=1):
            act, gain = make_activation(activation)
            layers[f"fc{i}"] = linear_layer(fan_in, width, parameterization, bias=bias, gain=gain)
            layers[f"act{i}"] = act
        layers["head"] = linear_layer(widths[-2], outputs, parameterization, bias=bias)
        return scaled(nn.Sequential(layers), init_scale)  # pyright: ignore[reportReturnType]
