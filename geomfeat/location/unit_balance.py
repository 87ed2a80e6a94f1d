"""Whether plain gradient descent trained a network: by the balance of its units, which gradient flow keeps.

Let a unit j of a hidden layer be homogeneous of degree 1 (ReLU, or linear), with incoming weights w_in (and bias) and
outgoing weights w_out. Multiplying the first by c and dividing the second by c changes nothing, so gradient flow with
rates D_in and D_out keeps

    |w_out_j|^2 / D_out - |w_in_j|^2 / D_in         (Du, Hu and Lee 2018, theorem 2.1, for equal rates).

So over the units of a layer the changes of |w_out|^2 are proportional to those of |w_in|^2: the ratio is that of the
rates, and the cosine between the two says how far to trust it. Under Adam it is .4 to .9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.location.rescalable_units import rescalable_pairs
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.numerics import WORKING

PROBED = 8  # samples on which a layer is checked for being homogeneous


@dataclass(frozen=True)
class UnitBalance:
    """A pair of layers: log10 of the ratio of their rates (second over first), and the cosine it rests on."""

    first: str
    second: str
    log_ratio: float
    cosine: float


def unit_balances(f: Functional, after: Mapping[str, Tensor], inputs: Any) -> list[UnitBalance]:
    """Every pair of linear layers with homogeneous units between them that both moved.

    Args:
        f: before training, in its own parameters. after: those after training, by the names of `f.theta`.
        inputs: on which the layers are checked for being homogeneous.

    >>> from torch import nn
    >>> from geomfeat.models.functional import functional
    >>> f = functional(nn.Sequential(nn.Linear(2, 9), nn.ReLU(), nn.Linear(9, 1)))
    >>> after = {name: value * 1.1 for name, value in f.theta.items()}
    >>> [(found.first, found.second) for found in unit_balances(f, after, torch.randn(9, 2))]
    [('0', '2')]
    """
    found, inputs = [], f.inputs(inputs)
    for first, second in rescalable_pairs(f, take(inputs, torch.arange(min(PROBED, n_samples(inputs))))):
        into = _incoming(after, first) - _incoming(f.theta, first)
        out = _outgoing(after, second) - _outgoing(f.theta, second)
        sizes = float(into.norm()), float(out.norm())
        if min(sizes) > 0:
            cosine = float(into @ out) / (sizes[0] * sizes[1])
            found.append(UnitBalance(first, second, math.log10(sizes[1] / sizes[0]), cosine))
    return found


def _incoming(theta: Mapping[str, Tensor], name: str) -> Tensor:
    """(units,) squared norms of what comes into every unit of a linear layer, with its bias."""
    squares = theta[f"{name}.weight"].to(WORKING).square().sum(1)
    bias = theta.get(f"{name}.bias")
    return squares if bias is None else squares + bias.to(WORKING).square()


def _outgoing(theta: Mapping[str, Tensor], name: str) -> Tensor:
    """(inputs,) squared norms of what a linear layer takes from every unit before it."""
    return theta[f"{name}.weight"].to(WORKING).square().sum(0)
