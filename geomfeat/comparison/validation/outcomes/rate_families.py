"""Families in which rates differ: by layer, width and entry; and in what `locate` knows of the optimizer."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from geomfeat.comparison.validation.outcomes.descent import at_gamma, by_optimizer, grouped, stable_rate
from geomfeat.comparison.validation.outcomes.training import Conditions, OutcomeFamily, Training, teacher_task
from geomfeat.models.mlp import mlp
from geomfeat.models.parameterization import ScaledLinear
from geomfeat.numerics import WORKING

INPUTS, OUTPUTS = 10, 2
MULTIPLIERS, RATES = "multipliers", "rates"  # the two forms of one trajectory
PAIRED_WIDTHS, MUP_WIDTHS = (32, 128, 512), (64, 128, 256, 512, 1024)
RATIOS = (0.01, 0.1, 1.0, 10.0, 100.0)
GAMMAS = (0.03, 0.3, 1.0, 3.0)
LAYERS = ("fc1", "fc2", "head")


def _multiplied(width: int, seed: int) -> nn.Sequential:
    """A tanh network in muP with its multipliers in the forward pass: weights N(0, 1) and one rate for all."""
    net = mlp(INPUTS, (width, width), OUTPUTS, activation="tanh", bias=False, parameterization="ntk", seed=seed)
    head = net.get_submodule("head")
    assert isinstance(head, ScaledLinear)
    head.multiplier = 1 / width
    return net.to(WORKING)


def same_trajectory(conditions: Conditions, seed: int) -> Training:
    """One trajectory of a muP network, written as multipliers, or as plain layers with a rate for each."""
    width = int(conditions["width"])
    net, task = _multiplied(width, seed), teacher_task(seed, n=24, outputs=OUTPUTS)
    rate = 0.3 * stable_rate(net, task)
    if conditions["form"] == MULTIPLIERS:
        return by_optimizer(net, task, lambda m: torch.optim.SGD(m.parameters(), lr=rate))
    plain = mlp(INPUTS, (width, width), OUTPUTS, activation="tanh", bias=False).to(WORKING)
    rates = {}
    for name in LAYERS:
        from_layer, to_layer = net.get_submodule(name), plain.get_submodule(name)
        assert isinstance(from_layer, ScaledLinear)
        assert isinstance(to_layer, nn.Linear)
        with torch.no_grad():
            to_layer.weight.copy_(from_layer.multiplier * from_layer.weight)
        rates[f"{name}.weight"] = from_layer.multiplier**2
    return by_optimizer(plain, task, lambda m: torch.optim.SGD(grouped(m, rates, rate)))


def mup_by_adam(conditions: Conditions, seed: int) -> Training:
    """muP as it is practised: nn.Linear, Adam, rates 1 / width behind hidden layers, a head of size 1 / width."""
    width = int(conditions["width"])
    net = mlp(INPUTS, (width, width), 1, activation="tanh", seed=seed).to(WORKING)
    with torch.no_grad():
        net.get_submodule("head").get_parameter("weight").mul_(1 / math.sqrt(width))
    narrow = MUP_WIDTHS[0] / width
    rates = {"fc1.*": 1.0, "fc2.weight": narrow, "fc2.bias": 1.0, "head.weight": narrow, "head.bias": 1.0}
    task = teacher_task(seed, n=24, outputs=1)
    return by_optimizer(net, task, lambda m: torch.optim.Adam(grouped(m, rates, 1e-3)))


def rates_by_layer(conditions: Conditions, seed: int) -> Training:
    """A ReLU network whose first layer learns at so many times the rate of the others."""
    ratio = float(conditions["ratio"])
    net = mlp(INPUTS, (48, 48), OUTPUTS, seed=seed)
    rates = {"fc1.*": ratio, "fc2.*": 1.0, "head.*": 1.0}
    return at_gamma(net, teacher_task(seed, outputs=OUTPUTS), float(conditions["gamma"]), rates=rates)


def adaptive(conditions: Conditions, seed: int, *, decay: float, given: str) -> Training:
    """A ReLU network trained by Adam or AdamW, of which `locate` is given the state, the kind, or nothing."""
    gamma = float(conditions["gamma"])
    net = mlp(INPUTS, (48, 48), OUTPUTS, seed=seed)
    rate = 1e-3 * min(gamma, 1.0)
    found = by_optimizer(
        net, teacher_task(seed, outputs=OUTPUTS),
        lambda m: torch.optim.AdamW(m.named_parameters(), lr=rate, weight_decay=decay), gamma=gamma,
    )  # fmt: skip
    return replace(found, shown=given != NOTHING, without_state=given == GRADIENT)


STATE, GRADIENT, NOTHING = "state given", "gradient at the start", "not given"
_ADAPTIVE = tuple(
    OutcomeFamily(
        f"{name}, {given}", "optimizer", tuple({"gamma": gamma} for gamma in GAMMAS),
        partial(adaptive, decay=decay, given=given),
    )
    for name, decay in (("adam", 0.0), ("adamw", 1.0))
    for given in (STATE, GRADIENT, NOTHING)
)  # fmt: skip

FAMILIES = (
    OutcomeFamily(
        "equal trajectories", "parameterization",
        tuple({"width": w, "form": form} for w in PAIRED_WIDTHS for form in (MULTIPLIERS, RATES)), same_trajectory,
    ),
    OutcomeFamily(
        "mup by adam", "parameterization", tuple({"width": w} for w in MUP_WIDTHS), mup_by_adam
    ),
    OutcomeFamily(
        "rates by layer", "optimizer", tuple({"ratio": r, "gamma": g} for r in RATIOS for g in (0.1, 3.0)),
        rates_by_layer,
    ),
    *_ADAPTIVE,
)  # fmt: skip
