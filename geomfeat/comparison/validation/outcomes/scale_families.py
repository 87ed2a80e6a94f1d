"""Families of initial scale and imbalance: two layers, lambda-balanced, diagonal, doubled, small read-outs."""

from __future__ import annotations

import math
from functools import partial

import torch

from geomfeat.comparison.validation.outcomes.descent import at_gamma
from geomfeat.comparison.validation.outcomes.networks import Diagonal, Doubled, TwoLayers
from geomfeat.comparison.validation.outcomes.training import Conditions, OutcomeFamily, Task, Training, teacher_task
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import balanced_network
from geomfeat.regimes.training import TrainOptions

SCALES, IMBALANCES = (0.2, 0.5, 1.0, 3.0), (1 / 16, 1.0, 16.0)
BALANCES = (-20.0, -5.0, -1.0, 0.0, 1.0, 5.0, 20.0)
STARTS = tuple(float(f"{a:.3g}") for a in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0))
LADDER = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
READOUTS = (1.0, 0.1, 0.01, 0.001)
PLAIN = TrainOptions(momentum=0.0)


def unbalanced(conditions: Conditions, seed: int, *, relu: bool) -> Training:
    """Two layers on a grid of scale and imbalance."""
    task = teacher_task(seed) if relu else linear_task(seed)
    net = TwoLayers(10, 48, 2, float(conditions["scale"]), float(conditions["imbalance"]), seed, relu)
    return at_gamma(net, task, 1.0, options=PLAIN, layers=["first"])


def lambda_balanced(conditions: Conditions, seed: int) -> Training:
    """Five inputs, units and outputs, lambda-balanced from small singular values, white inputs (Domine et al. 2024)."""
    size, n = 5, 20
    first, second = balanced_network(size, size, size, float(conditions["balance"]), 0.05, seed=seed)
    net = TwoLayers(size, size, size, 1.0, 1.0, seed, relu=False).to(WORKING)
    with torch.no_grad():
        net.first.weight.copy_(first)
        net.head.weight.copy_(second)
    draw = stream(seed, "validation", "balanced")
    left, right = (torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=WORKING))[0] for _ in range(2))
    target = left @ torch.diag(torch.linspace(1, 3, size, dtype=WORKING)) @ right
    x = torch.linalg.qr(torch.randn(n, size, generator=draw, dtype=WORKING))[0]
    task = Task(x, x @ target, torch.randn(n, size, generator=draw, dtype=WORKING) / math.sqrt(n))
    return at_gamma(net, task, 1.0, options=PLAIN, layers=["first"], target_loss=0.01)


def diagonal(conditions: Conditions, seed: int, *, depth: int) -> Training:
    """Sparse regression by bare parameters, all of one size at the start (Woodworth et al. 2020)."""
    inputs, n = 60, 24
    draw = stream(seed, "validation", "sparse")
    x = torch.randn(n + 64, inputs, generator=draw, dtype=WORKING)
    y = x[:, :4].sum(1, keepdim=True) / 2
    net = Diagonal(inputs, depth, float(conditions["start"]) ** (2 / depth))
    return at_gamma(net, Task(x[:n], y[:n], x[n:]), 1.0, options=PLAIN, layers=["hidden.*"], max_steps=8000)


def doubled(conditions: Conditions, seed: int) -> Training:
    """Two copies of a ReLU network whose outputs cancel at the start, on a ladder of output scales."""
    return at_gamma(Doubled(mlp(10, (32,), 2, seed=seed)), teacher_task(seed), float(conditions["gamma"]))


def small_readout(conditions: Conditions, seed: int) -> Training:
    """A ReLU network whose read-out begins so many times smaller."""
    net = mlp(10, (48,), 2, seed=seed)
    with torch.no_grad():
        net.get_submodule("head").get_parameter("weight").mul_(float(conditions["readout"]))
    return at_gamma(net, teacher_task(seed), float(conditions["gamma"]))


def linear_task(seed: int) -> Task:
    """Values of a linear map on Gaussian inputs."""
    draw = stream(seed, "validation", "linear map")
    x = torch.randn(24 + 64, 10, generator=draw, dtype=WORKING)
    y = x @ torch.randn(10, 2, generator=draw, dtype=WORKING) / math.sqrt(10)
    return Task(x[:24], y[:24], x[24:])


_GRID = tuple({"scale": s, "imbalance": i} for s in SCALES for i in IMBALANCES)
FAMILIES = (
    OutcomeFamily("unbalanced, relu", "imbalance", _GRID, partial(unbalanced, relu=True)),
    OutcomeFamily("unbalanced, linear", "imbalance", _GRID, partial(unbalanced, relu=False)),
    OutcomeFamily("lambda-balanced", "imbalance", tuple({"balance": b} for b in BALANCES), lambda_balanced),
    *(
        OutcomeFamily(
            f"diagonal, depth {d}", "imbalance", tuple({"start": a} for a in STARTS), partial(diagonal, depth=d)
        )
        for d in (2, 3, 4)
    ),
    OutcomeFamily("doubled", "scale", tuple({"gamma": g} for g in LADDER), doubled),
    OutcomeFamily(
        "small read-out", "scale", tuple({"readout": r, "gamma": g} for r in READOUTS for g in (0.1, 1.0, 10.0)),
        small_readout,
    ),
)  # fmt: skip
