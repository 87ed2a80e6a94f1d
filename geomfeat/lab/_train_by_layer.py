"""Networks whose layers learn at different rates, so that the regime of every layer is known by construction."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FROZEN, SLOW, FULL = 0.0, 1e-4, 1.0
LEFT = 0.05  # share of the loss at which training stops
LONGEST = 0.03  # a step, of the weights' norm
FASTER, SLOWER, MOMENTUM = 1.05, 0.5, 0.9


@dataclass(frozen=True, eq=False)
class Run:
    """A network before and after training, and the rate of each of its layers."""

    initial: nn.Module
    trained: nn.Module
    rates: Mapping[str, float]
    gamma: float
    loss: float
    steps: int


def train_by_layer(
    model: nn.Module, x: Tensor, y: Tensor, rates: Mapping[str, float], gamma: float, *, max_steps: int = 1500
) -> Run:
    """Full-batch descent on f = (net(w) - net(w0)) / gamma with a learning rate for every layer, by parameter groups.

    Args:
        x: (n, ...) inputs. y: (n, C) targets, zero mean. rates: layer -> factor on the learning rate, 0 to freeze.

    Momentum; the rate grows after every step that lowers the loss and is halved, and the step undone, after one that
    does not. Ends where `LEFT` of the loss at f = 0 is left, or after `max_steps`.
    """
    start = model
    net = copy.deepcopy(start)
    groups = [{"params": list(net.get_submodule(name).parameters()), "share": share} for name, share in rates.items()]
    parameters = [p for group in groups for p in group["params"]]
    with torch.no_grad():
        first = start(x)
    unit = float(y.square().sum())
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=MOMENTUM)

    def loss() -> Tensor:
        return ((net(x) - first) / gamma - y).square().sum() / unit

    rate, best, now = 0.0, 1.0, loss()
    held = [p.detach().clone() for p in parameters]
    for step in range(max_steps):  # noqa: B007
        optimizer.zero_grad()
        now.backward()
        size = sum(float(p.detach().square().sum()) for p in parameters) ** 0.5
        slope = sum(float((g["share"] * p.grad).square().sum()) for g in groups for p in g["params"]) ** 0.5
        rate = min(rate * FASTER, LONGEST * (1 - MOMENTUM) * size / slope) if rate else 1e-3 * size / slope
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        optimizer.step()
        now = loss()
        if now.item() < best:
            best, held = now.item(), [p.detach().clone() for p in parameters]
        else:
            with torch.no_grad():
                for p, old in zip(parameters, held, strict=True):
                    p.copy_(old)
            optimizer.state.clear()
            rate, now = rate * SLOWER, loss()
        if best < LEFT:
            break
    return Run(start, net, dict(rates), gamma, best, step + 1)
