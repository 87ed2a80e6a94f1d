"""The rates, the weight decay and epsilon that go with scaled outputs, and a torch optimizer's groups with them.

Outputs c (net - net0) instead of net - net0 have c times the gradient by every weight, and a kernel c^2 times as large.
Gradient descent at rate lr / c^2 then learns the same function in as many steps, by changes of weights that are 1 / c
as large; a rule whose steps do not depend on the gradient's size (Adam) does so at lr / c, with epsilon times c.
Let q be the speed of learning at one rate beside that of the network as it was: c^2, or c for Adam. Rates are divided
by q, but not raised (a rich network's curvature grows while it learns), unless a number of steps ends the training.

Weight decay is to shrink weights as much over the whole training as before. Learning takes T / q of time (the sum of
the rates of its steps) instead of T. Decay that is added to the gradient of plain descent, or decoupled (AdamW),
shrinks them by exp(-decay T): so it becomes decay times q, whatever the rate. Adam with decay added to the gradient
divides it by the gradient's size, which is q times as large: there it becomes decay times q^2. As a penalty on the
change dw of the weights, decay c^2 |dw|^2 is what it was: c dw is the change that the function asks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import unwrapped
from geomfeat.tangent.optimizer_rates import optimizer_rates

# Options of a group that torch writes itself: the names of its parameters, and the rate that a schedule began with.
_OWN = ("params", "param_names", "initial_lr")


@dataclass(frozen=True)
class Rescaling:
    """How an optimizer's settings change.

    Attributes:
        speed: q; NaN for that of `multiplier` by the optimizer's rule. multiplier: c, of the outputs.
        rate: factor on all rates; NaN for 1 / q, at most 1. by_parameter: name -> further factor on its rate.
    """

    multiplier: float = 1.0
    speed: float = math.nan
    rate: float = math.nan
    by_parameter: Mapping[str, float] = field(default_factory=dict)

    def speed_of(self, adaptive: bool) -> float:
        """q for such a rule.

        >>> Rescaling(10.0).speed_of(adaptive=False), Rescaling(10.0).speed_of(adaptive=True)
        (100.0, 10.0)
        """
        own = self.multiplier if adaptive else self.multiplier**2
        return own if math.isnan(self.speed) else self.speed

    def rate_factor(self, adaptive: bool) -> float:
        """On all rates.

        >>> Rescaling(2.0).rate_factor(adaptive=False), Rescaling(0.5).rate_factor(adaptive=False)
        (0.25, 1.0)
        """
        return min(1.0, 1 / self.speed_of(adaptive)) if math.isnan(self.rate) else self.rate

    def decay_factor(self, adaptive: bool, decoupled: bool) -> float:
        """On weight decay: q, or q^2 where it is divided by the size of gradients.

        >>> scaled = Rescaling(3.0)
        >>> [scaled.decay_factor(a, d) for a, d in ((False, False), (True, True), (True, False))]
        [9.0, 3.0, 9.0]
        """
        q = self.speed_of(adaptive)
        return q * q if adaptive and not decoupled else q


def rescaled_groups(
    model: nn.Module, changed: nn.Module, optimizer: Any, rescaling: Rescaling, rate: float = math.nan
) -> list[dict[str, Any]]:
    """Groups for an optimizer of `changed`, a copy of `model`, from one of `model`: a group for each rate.

    Args:
        optimizer: a torch optimizer of the model's parameters. What `optimizer_rates` takes else gives rates alone;
            None gives `rate`, times what `by_parameter` says.

    Raises BadInput for an optimizer of other parameters, and without one or a rate.

    >>> net, other = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.4, momentum=0.9, weight_decay=0.1)
    >>> (group,) = rescaled_groups(net, other, sgd, Rescaling(2.0))
    >>> round(group["lr"], 9), group["momentum"], round(group["weight_decay"], 9), group["params"][0] is other.weight
    (0.1, 0.9, 0.4, True)
    """
    model, changed = unwrapped(model), unwrapped(changed)
    names = {id(p): name for name, p in model.named_parameters()}
    own = dict(changed.named_parameters())
    if optimizer is None:
        if not rate > 0:
            raise BadInput("no rate is known: give the optimizer that would have trained the network")
        free = [name for name, p in own.items() if p.requires_grad]
        return _by_rate([(name, {"lr": rate}) for name in free], own, rescaling.by_parameter)
    if not isinstance(optimizer, torch.optim.Optimizer):
        rates = optimizer_rates(optimizer, model)
        factor = rescaling.rate_factor(bool(rates.adaptive | rates.orthogonal))
        moved = [(name, {"lr": rates.rates[name] * factor}) for name in own if rates.moves(name)]
        return _by_rate(moved, own, rescaling.by_parameter)
    adaptive = bool(optimizer_rates(optimizer, model).adaptive)
    settings: list[tuple[str, dict[str, Any]]] = []
    for group in optimizer.param_groups:
        options = _rescaled({**optimizer.defaults, **group}, rescaling, adaptive, type(optimizer).__name__)
        settings += [(names[id(p)], options) for p in group["params"]]
    return _by_rate(settings, own, rescaling.by_parameter)


def _rescaled(group: Mapping[str, Any], rescaling: Rescaling, adaptive: bool, name: str) -> dict[str, Any]:
    options = {key: value for key, value in group.items() if key not in _OWN}
    options["lr"] = float(group.get("initial_lr", group["lr"])) * rescaling.rate_factor(adaptive)
    if group.get("weight_decay"):
        decoupled = bool(group.get("decoupled_weight_decay")) or name.endswith("AdamW")
        options["weight_decay"] = group["weight_decay"] * rescaling.decay_factor(adaptive, decoupled)
    if adaptive and isinstance(group.get("eps"), float):
        options["eps"] = group["eps"] * rescaling.speed_of(adaptive)
    return options


def _by_rate(
    settings: Sequence[tuple[str, dict[str, Any]]], own: Mapping[str, nn.Parameter], factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Parameters of the same options in one group, in order."""
    found: dict[tuple[int, float], dict[str, Any]] = {}
    for name, options in settings:
        factor = factors.get(name, 1.0)
        key = (id(options) if len(options) > 1 else 0, options["lr"] * factor)
        if key not in found:
            found[key] = {**options, "params": [], "lr": options["lr"] * factor}
            if options.get("weight_decay"):  # shrinks by rate times decay, which is to stay
                found[key]["weight_decay"] = options["weight_decay"] / factor
        found[key]["params"].append(own[name])
    return list(found.values())
