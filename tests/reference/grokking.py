"""Slow definitions for grokking runs: one weight matrix, one autograd step at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PolynomialNetwork(nn.Module):
    """f(x) = (alpha / N) sum_i (h_i + eps h_i^2 / 2), h_i = w_i . x."""

    def __init__(self, weights: Tensor, alpha: float, eps: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.clone())
        self.alpha, self.eps = alpha, eps

    def forward(self, x: Tensor) -> Tensor:
        h = x @ self.weights
        return self.alpha * (h + self.eps * h**2 / 2).mean(1, keepdim=True)


def descend(weights: Tensor, x: Tensor, y: Tensor, alpha: float, eps: float, rate: float, steps: int) -> Tensor:
    """Weights (D, N) after gradient descent on half the mean square, by autograd."""
    network, start = PolynomialNetwork(weights, alpha, eps), PolynomialNetwork(weights, alpha, eps)
    before = start(x).detach()
    for _ in range(steps):
        loss = ((network(x) - before)[:, 0] - y).square().mean() / 2
        (slope,) = torch.autograd.grad(loss, network.weights)
        with torch.no_grad():
            network.weights -= rate * weights.shape[1] / alpha**2 * slope
    return network.weights.detach()
