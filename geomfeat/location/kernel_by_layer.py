"""Which layers the change of the tangent kernel is of: the share of each one's own parameters.

The kernel is the sum of those of the modules' own parameters, K = sum_g K_g, and so is its change. The share of g is

    <dK_g, dK>_F / |dK|_F^2,

which sums to 1 over all modules. A module's kernel changes with its own features and with all weights after it; in a
two-layer network the share of the read-out is that of the features, and the share of the first layer that of the
read-out's weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from geomfeat.activations import module_name
from geomfeat.models.functional import Functional
from geomfeat.numerics import WORKING
from geomfeat.tangent import ntk_by_parameter_group

Grams = Mapping[str, Tensor]


def grams_by_module(f: Functional, inputs: Any) -> dict[str, Tensor]:
    """Module -> (n C, n C) tangent kernel of its own parameters, float64."""
    return {name: k.gram.to(WORKING) for name, k in ntk_by_parameter_group(f, inputs, outputs="full").items()}


def change_by_layer(before: Grams, after: Grams, layers: Sequence[str]) -> dict[str, float]:
    """Layer -> share of the kernel's change that is of its parameters; NaN throughout where the kernel did not change.

    A parameter counts in the innermost of the layers whose module holds it; those of none (the read-out) in none.

    >>> import torch
    >>> one, two = torch.eye(2), torch.zeros(2, 2)
    >>> change_by_layer({"a.w": two, "head": two}, {"a.w": 3 * one, "head": one}, ["a"])
    {'a': 0.75}
    """
    changes = {group: after[group] - before[group] for group in before}
    whole = sum(changes.values())
    size = float(whole.square().sum()) if isinstance(whole, Tensor) else 0.0
    shares = dict.fromkeys(layers, 0.0 if size else math.nan)
    for group, change in changes.items():
        holders = [name for name in layers if f"{group}.".startswith(f"{module_name(name)}.")]
        if holders and size:
            shares[max(holders, key=len)] += float((change * whole).sum()) / size
    return shares
