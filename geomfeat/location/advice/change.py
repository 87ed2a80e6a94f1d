"""One way to reach a demand R: what changes in the network and in its optimizer, and where that leads."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.location.advice.rescaling import Rescaling, rescaled_groups
from geomfeat.models.functional import copied, unwrapped
from geomfeat.regimes.training.output_multiplier import with_scaled_outputs

AS_IT_IS, OUTPUTS, SCALE, WIDTH = "as it is", "output multiplier", "initial scale", "rates by width"
REACHED = 0.15  # decades within which R is called reached


@dataclass(frozen=True, eq=False)
class AdvisedChange(BaseResult):
    """A change of a network before its training, and the demand that it leads to.

    Attributes:
        kind: "output multiplier" (outputs become c (net - net0)), "initial scale", "rates by width" (an output
            multiplier and rates by layer for a network of another width), or "as it is".
        multiplier: c; NaN where the outputs stay as they are.
        init_scale: module -> factor on its initial weights and biases; empty where they stay.
        rescaling: of rates, weight decay and epsilon.
        richness, low, high, kernel_demand, regime, movement, excess: as in `Forecast`, of the changed network.
        verified: whether these come from a forecast of the changed network; else from the rule alone.
        reached: whether `richness` is within .15 of what was asked for, or beyond it where a word was.
        rate: advised mean rate of the optimizer, NaN where none is known. stable_rate, proposed_rate: of the changed
            network, NaN for optimizers that divide by the size of gradients.
        reason: why, in a sentence. code: what applies it, to paste after the lines that make `model`.

    `to_frame()`: one row, with factors on rates in place of the rescaling.
    """

    kind: str
    richness: float
    multiplier: float = math.nan
    init_scale: Mapping[str, float] = field(default_factory=dict)
    rescaling: Rescaling = field(default_factory=Rescaling)
    low: float = math.nan
    high: float = math.nan
    kernel_demand: float = math.nan
    regime: str = ""
    movement: float = math.nan
    excess: float = math.nan
    verified: bool = False
    reached: bool = True
    rate: float = math.nan
    stable_rate: float = math.nan
    proposed_rate: float = math.nan
    reason: str = ""
    code: str = ""

    def apply(self, model: nn.Module, optimizer: Any = None) -> tuple[nn.Module, list[dict[str, Any]]]:
        """(the changed network, groups of its parameters for a new optimizer of the same class); both given ones stay.

        Args:
            model: with the initial weights; for "rates by width" that of the other width.
            optimizer: that of the model's parameters, at the rates it had without advice; default: rates of
                `rate`, for gradient descent.

        Raises BadInput for a model without the modules that are scaled, an optimizer of other parameters, or no rate.
        """
        changed = changed_network(model, self.multiplier, self.init_scale)
        return changed, rescaled_groups(model, changed, optimizer, self.rescaling, self.rate)

    def to_frame(self) -> Any:
        """One row."""
        import pandas as pd

        return pd.DataFrame([self.row()])

    def row(self) -> dict[str, Any]:
        """The numbers, for a table."""
        names = ("richness", "low", "high", "kernel_demand", "regime", "movement", "excess", "verified", "reached",
                 "rate", "stable_rate", "proposed_rate")  # fmt: skip
        scales = set(self.init_scale.values())
        return {
            "change": self.kind, "multiplier": self.multiplier, "init_scale": min(scales, default=math.nan),
            **{name: getattr(self, name) for name in names},
        }  # fmt: skip

    def __str__(self) -> str:
        """One line."""
        what = {
            OUTPUTS: f"outputs {self.multiplier:.3g} (net - net0)",
            SCALE: f"initial weights times {min(self.init_scale.values(), default=1.0):.3g}"
            + ("" if math.isnan(self.multiplier) else " and outputs net - net0"),
            WIDTH: f"outputs {self.multiplier:.3g} (net - net0) and rates by layer",
        }.get(self.kind, self.kind)
        interval = "" if math.isnan(self.low) else f" [{self.low:+.2f}, {self.high:+.2f}]"
        rate = "" if math.isnan(self.rate) else f", rate {self.rate:.3g}"
        said = "" if self.reached else " (not what was asked for)"
        return f"{what}{rate}: R = {self.richness:+.2f}{interval}{said}. {self.reason}"


def changed_network(model: nn.Module, multiplier: float, init_scale: Mapping[str, float]) -> nn.Module:
    """A copy with initial weights times these factors by module, and outputs c (net - net0) unless c is NaN.

    >>> net = nn.Sequential(nn.Linear(2, 1))
    >>> changed = changed_network(net, float("nan"), {"0": 2.0})
    >>> bool((changed[0].weight == 2 * net[0].weight).all())
    True
    """
    clone = copied(model)
    modules = dict(clone.named_modules())
    with torch.no_grad():
        for name, factor in init_scale.items():
            if name not in modules:
                raise BadInput(f"the model has no module {name!r}: give the network that the advice is for")
            for parameter in modules[name].parameters(recurse=False):
                parameter.mul_(factor)
    return clone if math.isnan(multiplier) else with_scaled_outputs(clone, multiplier)


def code_of(
    multiplier: float, init_scale: Mapping[str, float], groups: list[dict[str, Any]], changed: nn.Module,
    optimizer: Any,
) -> str:  # fmt: skip
    """Lines that make the change of `model`, and an optimizer like the given one: `groups` are of `changed`."""
    lines, imports = [], ["import torch"]
    if init_scale:
        lines += [
            f"scales = {dict(init_scale)!r}  # by module", "with torch.no_grad():",
            "    for name, factor in scales.items():",
            "        for p in model.get_submodule(name).parameters(recurse=False):", "            p.mul_(factor)",
        ]  # fmt: skip
    if not math.isnan(multiplier):
        imports.append("from geomfeat.regimes.training import with_scaled_outputs")
        lines.append(f"model = with_scaled_outputs(model, {multiplier!r})  # outputs are c (net(x) - net0(x))")
    names = {id(p): name for name, p in unwrapped(changed).named_parameters()}
    kind = type(optimizer) if isinstance(optimizer, torch.optim.Optimizer) else torch.optim.SGD
    usual = {name: p.default for name, p in inspect.signature(kind.__init__).parameters.items()}
    shared = [key for key in groups[0] if key != "params" and len({repr(g.get(key)) for g in groups}) == 1]
    other = [key for key in shared if key in usual and groups[0][key] != usual[key]]
    said = ", ".join(f"{key}={_short(groups[0][key])!r}" for key in other)
    if kind.__module__.startswith("torch.optim"):
        made = f"torch.optim.{kind.__name__}"
    else:
        imports.append(f"from {kind.__module__} import {kind.__qualname__}")
        made = kind.__qualname__
    every = len(groups) == 1 and len(groups[0]["params"]) == len(names)
    if not every:
        lines += ["weights = dict(model.named_parameters())", "groups = ["]
        for group in groups:
            own = {key: group[key] for key in group if key not in (*shared, "params")}
            rest = "".join(f', "{key}": {_short(value)!r}' for key, value in own.items())
            listed = ", ".join(repr(names[id(p)]) for p in group["params"])
            lines.append(f'    {{"params": [weights[name] for name in ({listed},)]{rest}}},')
        lines.append("]")
    lines.append(f"optimizer = {made}({'model.parameters()' if every else 'groups'}{', ' * bool(said)}{said})")
    return "\n".join([*imports, "", *lines])


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
