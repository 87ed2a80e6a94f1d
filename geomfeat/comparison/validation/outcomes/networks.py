"""Networks of the families that the package has no architecture for: bare parameters, doubled, recurrent, residual."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from geomfeat.numerics import WORKING, stream


class Diagonal(nn.Module):
    """f(x) = sum_i (u_i^D - v_i^D) x_i with bare parameters w = (u, v) (Woodworth et al. 2020).

    `hidden.0`, ...: (x, x) times w, once for each layer but the last.
    """

    def __init__(self, inputs: int, depth: int, start: Tensor | float) -> None:
        super().__init__()
        self.depth = depth
        half = torch.as_tensor(start, dtype=WORKING).expand(inputs)
        self.w = nn.Parameter(torch.cat([half, half]))
        self.hidden = nn.ModuleList(nn.Identity() for _ in range(depth - 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, 1)."""
        h = torch.cat([x, x], 1)
        for layer in self.hidden:
            h = layer(h * self.w)
        plus, minus = (h * self.w).chunk(2, 1)
        return (plus - minus).sum(1, keepdim=True)


class Doubled(nn.Module):
    """(net(x) - net'(x)) / sqrt(2) of two networks with the same weights at the start: f_0 = 0 (Chizat et al. 2019)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.plus, self.minus = net, copy.deepcopy(net)

    def forward(self, x: Tensor) -> Tensor:
        """As the network's."""
        return (self.plus(x) - self.minus(x)) / math.sqrt(2)


class RateNetwork(nn.Module):
    """r <- r / 2 + tanh(W r + U x) / 2 for a few steps of constant input, then `head`.

    W has independent entries of variance gain^2 / units; a rank makes it that of a product of two factors, of the same
    mean square.
    """

    STEPS = 8

    def __init__(self, inputs: int, units: int, outputs: int, gain: float, rank: int | None, seed: int) -> None:
        super().__init__()
        self.sense = nn.Linear(inputs, units, bias=False)
        self.recur = nn.Linear(units, units, bias=False)
        self.head = nn.Linear(units, outputs, bias=False)
        draw = stream(seed, "validation", "recurrent")
        with torch.no_grad():
            self.sense.weight.copy_(torch.randn(units, inputs, generator=draw) / inputs**0.5)
            whole = torch.randn(units, units, generator=draw)
            left, right = (torch.randn(units, units, generator=draw) for _ in range(2))
            if rank is not None:
                whole = left[:, :rank] @ right[:, :rank].mT / rank**0.5
            self.recur.weight.copy_(gain * whole / units**0.5)
            self.head.weight.copy_(torch.randn(outputs, units, generator=draw) / units**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, outputs)."""
        drive = self.sense(x)
        rates = torch.zeros_like(drive)
        for _ in range(self.STEPS):
            rates = (rates + torch.tanh(self.recur(rates) + drive)) / 2
        return self.head(rates)


class ResidualBlocks(nn.Module):
    """`stem`, then h <- h + out(relu(inner(h))) in each of `blocks`, then `head`."""

    def __init__(self, inputs: int, width: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(depth)
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, outputs)."""
        h = self.stem(x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(h)


class TwoLayers(nn.Module):
    """`head`(act(`first`(x))) without biases: first of standard deviation scale / sqrt(imbalance * inputs), head of
    scale sqrt(imbalance / units); the product of both does not depend on the imbalance (Kunin et al. 2024)."""

    def __init__(
        self, inputs: int, units: int, outputs: int, scale: float, imbalance: float, seed: int, relu: bool
    ) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, units, bias=False)
        self.act = nn.ReLU() if relu else nn.Identity()
        self.head = nn.Linear(units, outputs, bias=False)
        draw = stream(seed, "validation", "unbalanced")
        first, head = (torch.randn(m.weight.shape, generator=draw) for m in (self.first, self.head))
        with torch.no_grad():
            self.first.weight.copy_(first * scale / math.sqrt(imbalance * inputs))
            self.head.weight.copy_(head * scale * math.sqrt(imbalance / units))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, outputs)."""
        return self.head(self.act(self.first(x)))
