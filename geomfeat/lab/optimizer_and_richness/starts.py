"""Networks before training, and the rates at which each optimizer trains them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.data._load_data import load_data
from geomfeat.forecasting import ForecastOptions, forecast
from geomfeat.forecasting.stable_rate import stable_rate
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING, Device
from geomfeat.regimes.training import PlainOptions, at_richness
from geomfeat.regimes.training.objective import centred_one_hot

LAZY, RICH = "lazy", "rich"
GAMMAS = {LAZY: 0.1, RICH: 1.0}
MOMENTUM = 0.9
SGD, HEAVY, ADAMW, MUON = "SGD", "momentum", "AdamW", "Muon"
# Torch has Muon since 2.9.
OPTIMIZERS = tuple(name for name in (SGD, HEAVY, ADAMW, MUON) if name != MUON or hasattr(torch.optim, "Muon"))
# Rates of plain descent, in units of the start's: one that follows the flow, one beyond it.
FLOW, BEYOND = 1 / 2, 2.0
PROBE = 1e-8  # rate of a first step that is linear in it


@dataclass(frozen=True, eq=False)
class Start:
    """A network whose outputs are (net(x) - net_0(x)) / gamma, its task, and a rate for each optimizer.

    Attributes:
        inputs: (n, 1, 8, 8), float64. labels: (n,). seed: of the initial weights.
        units: optimizer -> the rate that others are given in: the stable rate of the forecast for SGD, also with
            momentum; for optimizers that divide by the gradient, that at which the first step, linearised, moves the
            outputs by the size of the targets.
        target: the loss to train to, over that of outputs 0.
    """

    name: str
    seed: int
    model: nn.Module
    inputs: Tensor
    labels: Tensor
    units: dict[str, float] = field(repr=False)
    target: float

    def rule(
        self, optimizer: str, share: float, *, max_steps: int, target: float | None = None, **schedule: Any
    ) -> PlainOptions:
        """Training to the target (by default the start's) by this optimizer, at this share of its unit.

        Muon is of matrices alone, which all parameters of these networks are.
        """
        rate = share * self.units[optimizer]
        if optimizer == MUON:
            by: dict[str, Any] = {"optimizer": lambda named: torch.optim.Muon(named, lr=rate, weight_decay=0.0)}
        elif optimizer == ADAMW:
            by = {"optimizer": "adamw", "lr": rate}
        else:
            by = {"optimizer": "sgd", "lr": rate, "momentum": MOMENTUM if optimizer == HEAVY else 0.0}
        return PlainOptions(**by, target_loss=target or self.target, max_steps=max_steps, **schedule)


def start_at(
    name: str, seed: int, *, samples: int, width: int, target: float, data_seed: int, device: Device = "cpu"
) -> Start:  # fmt: skip
    """A network of two hidden ReLU layers on the digits, lazy or rich by its output scale alone."""
    data = load_data("digits", n=samples, seed=data_seed)
    assert isinstance(data.labels, Tensor)
    inputs, labels = data.inputs.to(device, WORKING), data.labels.to(device)
    model = at_richness(mlp(hidden=(width, width), bias=False, seed=seed).to(device, WORKING), gamma=GAMMAS[name])
    known = forecast(model, inputs, labels, loss="mse", target_loss=target, options=ForecastOptions(n_bootstrap=2))
    units = {SGD: known.stable_rate, HEAVY: stable_rate(known.curvature, known.kernel_demand, MOMENTUM)}
    goal = centred_one_hot(labels, 10, WORKING)
    units |= {name: _first_step(model, inputs, goal, name) for name in OPTIMIZERS if name not in units}
    return Start(name, seed, model, inputs, labels, units, target)


def _first_step(model: nn.Module, inputs: Tensor, goal: Tensor, optimizer: str) -> float:
    """The rate at which the first step, linearised, moves the outputs as far as the targets are."""
    own = copy.deepcopy(model)
    make = torch.optim.AdamW if optimizer == ADAMW else torch.optim.Muon
    stepped = make(own.parameters(), lr=PROBE, weight_decay=0.0)
    (own(inputs) - goal).square().sum(1).mean().backward()
    stepped.step()
    with torch.no_grad():
        return PROBE * float(goal.norm() / own(inputs).norm())
