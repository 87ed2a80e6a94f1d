"""Small trainings with a monitor, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.monitoring import MonitorOptions

ALWAYS = MonitorOptions(max_share=None)


def data(n: int = 24, d: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def network(seed: int = 0, d: int = 4, width: int = 16, outputs: int = 2) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(d, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
        )


def scalar_network(a: float, w: float) -> nn.Sequential:
    """f = a w x."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    for p, value in zip(net.parameters(), (w, a), strict=True):
        nn.init.constant_(p, value)
    return net


def trained(
    net: nn.Module, x: Tensor, y: Tensor, folder: Path, steps: int, *, lr: float = 0.1, first: int = 1,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
    after: Callable[[int], Any] = lambda _: None, probes: Any = None, **more: Any,
) -> gf.Monitor:  # fmt: skip
    """Full-batch descent with a monitor; `after` is called after every step, before it is measured."""
    rule = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=lr)
    more = {"every": 1, "options": ALWAYS, **more}
    with gf.Monitor(net, x if probes is None else probes, folder=folder, **more) as monitor:
        for step in range(first, first + steps):
            value = loss(net(x), y)
            rule.zero_grad()
            value.backward()
            rule.step()
            after(step)
            monitor.step(step, value)
    return monitor


def squares(f: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (f - y).square().sum(1).mean()
