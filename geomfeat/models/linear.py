"""Deep linear networks: no activations, no biases."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.parameterization import check_parameterization, linear_layer, scaled, seeded


def linear(
    inputs: int = 64,
    hidden: Sequence[int] = (64,),
    outputs: int = 10,
    *,
    parameterization: str = "standard",
    init_scale: float = 1.0,
    seed: int | None = None,
) -> nn.Sequential:
    """`flatten`, `fc1`, `fc2`, ..., `head`: y = W_L ... W_1 x, as in Saxe et al. 2014.

    Args: as in `geomfeat.models.mlp.mlp`. The output at the start scales as init_scale^L exactly.

    >>> import torch
    >>> linear(4, (3, 3), 2)(torch.zeros(5, 4)).shape
    torch.Size([5, 2])
    """
    check_parameterization(parameterization)
    widths = [inputs, *hidden, outputs]
    if min(widths) < 1:
        raise BadInput(f"every width must be at least 1, got inputs, hidden, outputs = {widths}")
    names = [*(f"fc{i}" for i in range(1, len(widths) - 1)), "head"]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    with seeded(seed, "linear"):
        for name, fan_in, width in zip(names, widths[:-1], widths[1:], strict=True):
            layers[name] = linear_layer(fan_in, width, parameterization, bias=False)
        return scaled(nn.Sequential(layers), init_scale)  # pyright: ignore[reportReturnType]
