"""Rates by layer for a network at another width, so that its layers learn as they do at the first width (muP).

Let a weight's fan-out and fan-in be n_out and n_in times as large as before. A step then changes the layer's outputs as
before if the rate of gradient descent grows as n_out / n_in, that of Adam as 1 / n_in, where the outputs of the network
are divided by the square root of what the width of its last hidden layer grew by (an output multiplier m^-1/2). As
that multiplier makes the read-out's weight effectively m^-1/2 as large, its own rate is m, or m^1/2, times as large.
Biases and gains count as weights of fan-in 1.

Source: Yang and Hu 2021 (table 8), their read-out's initial variance as a multiplier; Yang, Simon and Bernstein 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import unwrapped
from geomfeat.models.parameterization import ScaledConv2d, ScaledLinear

# Modules whose weight has its fan-in first.
_FAN_IN_FIRST = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def width_rates(model: nn.Module, wider: nn.Module, *, adaptive: bool) -> tuple[dict[str, float], float]:
    """(name -> factor on its rate in `wider`, factor that the width of the last hidden layer grew by).

    Raises BadInput for a network of another architecture, and one of the same width.

    >>> from geomfeat.models.mlp import mlp
    >>> rates, m = width_rates(mlp(8, (16, 16), 3), mlp(8, (64, 64), 3), adaptive=False)
    >>> {name: f for name, f in rates.items() if name.endswith("weight")}, m
    ({'fc1.weight': 4.0, 'fc2.weight': 1.0, 'head.weight': 1.0}, 4.0)
    >>> width_rates(mlp(8, (16, 16), 3), mlp(8, (64, 64), 3), adaptive=True)[0]["fc2.weight"]
    0.25
    """
    rates, grown = dict[str, float](), 1.0
    for name, out, into, forward in _ratios(unwrapped(model), unwrapped(wider)):
        factor = 1 / into if adaptive else out / into
        if into != 1 and out == 1:
            factor *= math.sqrt(into) if adaptive else into
            grown = into
        # In NTK parameterization the forward pass divides the weight by the root of its fan-in.
        rates[name] = factor / (forward if adaptive else forward**2)
    if all(factor == 1 for factor in rates.values()) and grown == 1:
        raise BadInput("wider= has the widths of the model itself: give the network at another width")
    return rates, grown


def _ratios(model: nn.Module, wider: nn.Module) -> Iterator[tuple[str, float, float, float]]:
    """(name, growth of fan-out, of fan-in, of the multiplier in the forward pass) of every parameter."""
    old, new = dict(model.named_parameters()), dict(wider.named_parameters())
    if old.keys() != new.keys() or any(old[name].ndim != new[name].ndim for name in old):
        odd = sorted(old.keys() ^ new.keys())[:3]
        raise BadInput(f"wider= is no wider copy of the model: their parameters differ ({', '.join(odd) or 'shapes'})")
    for name, before in old.items():
        holder = model.get_submodule(name.rpartition(".")[0])
        grown = [b / a for a, b in zip(before.shape, new[name].shape, strict=True)]
        if len(grown) < 2:
            yield name, grown[0] if grown else 1.0, 1.0, 1.0
            continue
        out, into = grown[0], grown[1]
        if isinstance(holder, _FAN_IN_FIRST) or type(holder).__name__ == "Conv1D":
            out, into = into, out
        if isinstance(holder, nn.Embedding) or _is_bare(holder, name):
            out, into = math.prod(grown), 1.0  # a row is looked up, or added: no sum over the width
        forward, other = 1.0, wider.get_submodule(name.rpartition(".")[0])
        if isinstance(holder, ScaledLinear | ScaledConv2d) and isinstance(other, ScaledLinear | ScaledConv2d):
            forward = other.multiplier / holder.multiplier
        yield name, out, into, forward


def _is_bare(holder: nn.Module, name: str) -> bool:
    """Whether a parameter is no weight of a layer of torch: position embeddings, class tokens."""
    return not type(holder).__module__.startswith("torch.nn") and not name.endswith("weight")
