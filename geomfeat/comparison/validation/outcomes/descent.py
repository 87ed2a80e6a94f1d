"""Trainings in this process: `train_at_gamma`, and a plain loop over any torch optimizer with its own rates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from geomfeat.comparison.validation.outcomes.training import Task, Training
from geomfeat.errors import GeomfeatError
from geomfeat.models.functional import functional
from geomfeat.numerics import WORKING
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.tangent import ntk
from geomfeat.tangent.metric import metric_of
from geomfeat.tangent.optimizer_rates import optimizer_rates

TARGET_LOSS, STEPS = 0.05, 4000
DEFAULT = TrainOptions()
FAR = 1e6  # a loss of so many times the first one is lost
Rates = Mapping[str, float]


def at_gamma(
    model: nn.Module,
    task: Task,
    gamma: float,
    *,
    loss: str = "mse",
    target_loss: float | None = TARGET_LOSS,
    max_steps: int = STEPS,
    rates: Rates | None = None,
    options: TrainOptions = DEFAULT,
    layers: Any = "*",
) -> Training:
    """Train by plain descent with momentum at an output scale.

    Args:
        rates: parameter glob -> factor on the learning rate, for every parameter; those of 0 are frozen.
    """
    model = model.to(WORKING)
    if rates is not None:
        options = replace(options, lr_multipliers=dict(rates))
    found = train_at_gamma(
        model, task.inputs, task.targets, gamma=gamma, loss=loss, target_loss=target_loss, max_steps=max_steps,
        options=options,
    )  # fmt: skip
    moving = None if rates is None else {name: rate for name, rate in rates.items() if rate > 0}
    return Training(model, found.model, task, found.train_loss, moving, layers=layers)


def by_optimizer(
    model: nn.Module,
    task: Task,
    make: Callable[[nn.Module], torch.optim.Optimizer],
    *,
    gamma: float = 1.0,
    target_loss: float = TARGET_LOSS,
    max_steps: int = STEPS,
    layers: Any = "*",
) -> Training:
    """Train on the squared error of (net(w) - net(w0)) / gamma in full batches, the raw weights by a torch optimizer.

    Args:
        make: gives the optimizer of a network. target_loss: relative to that of the start; training ends there.

    Raises GeomfeatError where training diverges.
    """
    model = model.to(WORKING)
    trained = copy.deepcopy(model)
    optimizer = make(trained)
    with torch.no_grad():
        start, scale = model(task.inputs), float(task.targets.square().sum())
    share = 1.0
    for step in range(max_steps + 1):
        loss = ((trained(task.inputs) - start) / gamma - task.targets).square().sum() / scale
        share = float(loss.detach())
        if not share < FAR:
            raise GeomfeatError(f"training diverged at step {step}")
        if share <= target_loss or step == max_steps:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Training(model, trained, task, share, optimizer, layers=layers)


def stable_rate(model: nn.Module, task: Task, rates: Rates | None = None, gamma: float = 1.0) -> float:
    """The rate of 1 / curvature of `by_optimizer`'s loss at the start: twice it is where plain descent turns unstable.

    Args:
        rates: parameter glob -> ratio of its rate to that which is returned, for every parameter; default: 1.
    """
    f = functional(model.to(WORKING))
    scale = 1.0
    if rates is not None:
        found = optimizer_rates(rates, model)
        metric = metric_of(found, f.theta, dict)
        name = next(iter(f.theta))
        first = float(torch.as_tensor(metric.scale.get(name, 1.0)))  # equal rates need no scale
        scale = float(found.rates[name]) / first**2
        f = f.scaled(metric.scale)
    kernel = ntk(f, task.inputs, outputs="full").gram
    top = float(torch.linalg.eigvalsh(kernel.to(WORKING))[-1]) * scale
    return gamma**2 * float(task.targets.square().sum()) / (2 * top)


def grouped(model: nn.Module, rates: Rates, rate: float) -> list[dict[str, Any]]:
    """Parameter groups of a torch optimizer: those that each glob names, at so many times a rate."""
    known = dict(model.named_parameters())
    factors = optimizer_rates(rates, model).rates
    return [{"params": [(name, known[name])], "lr": rate * factors[name]} for name in factors if factors[name] > 0]
