"""What a forecast takes from an optimizer: its mean rate, its momentum, and whether it divides by gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.models.trained_parameters import plain_name
from geomfeat.tangent.optimizer_rates import OptimizerRates
from geomfeat.tangent.optimizer_state import parts_of


@dataclass(frozen=True)
class OptimizerFacts:
    """Of the optimizer that will train.

    Attributes:
        name: of its class, "rates" where only rates are known, "" where nothing is. rate: mean over the parameters;
            NaN where it is not known. momentum: of gradient descent. adaptive: whether updates are divided by the size
            of gradients, so that a rate is no speed of gradient flow. plain_momentum: whether all parameters have this
            momentum in its first form (Polyak's), without damping.
    """

    name: str = ""
    rate: float = math.nan
    momentum: float = 0.0
    adaptive: bool = False
    plain_momentum: bool = False

    @property
    def flow_rate(self) -> float:
        """Time of gradient flow for each step: rate / (1 - momentum); NaN where steps are no flow."""
        return math.nan if self.adaptive else self.rate / (1 - self.momentum)


def optimizer_facts(optimizer: Any, rates: OptimizerRates | None, parameters: Mapping[str, Tensor]) -> OptimizerFacts:
    """Facts of `optimizer`, whose `rates` are known, for the parameters that it will train.

    >>> net = torch.nn.Linear(2, 1)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    >>> facts = optimizer_facts(sgd, OptimizerRates({"weight": 0.1, "bias": 0.1}), dict(net.named_parameters()))
    >>> facts.name, round(facts.flow_rate, 9)
    ('SGD', 0.2)
    """
    if rates is None:
        return OptimizerFacts()
    sizes = {plain_name(name): p.numel() for name, p in parameters.items()}
    mean = sum(rates.rates[name] * size for name, size in sizes.items()) / sum(sizes.values())
    adaptive = bool((rates.adaptive | rates.orthogonal) & sizes.keys())
    if isinstance(optimizer, torch.optim.Optimizer):
        groups, name = optimizer.param_groups, type(optimizer).__name__
    elif isinstance(optimizer, Mapping) and "param_groups" in optimizer:
        groups, name = parts_of(optimizer)[0], "saved optimizer"
    else:
        groups, name = (), "rates"
    momentum = 0.0 if adaptive else max((float(group.get("momentum") or 0.0) for group in groups), default=0.0)
    plain = momentum > 0 and all(
        float(g.get("momentum") or 0.0) == momentum and not g.get("nesterov") and not g.get("dampening") for g in groups
    )
    return OptimizerFacts(name, mean, momentum, adaptive, plain)
