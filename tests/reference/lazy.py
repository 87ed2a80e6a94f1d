"""Training at scale gamma, written from the definition: one gradient at a time, torch's own optimizers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """(n * C, p) derivatives of the outputs, sample-major, one backward pass per number."""
    rows = []
    for out in model(x).flatten():
        grads = torch.autograd.grad(out, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows)


def linearised_descent(model: nn.Module, x: Tensor, y: Tensor, lr: float, steps: int) -> Tensor:
    """f (n, C) of the linearised network after `steps` of gradient descent on the relative mean square."""
    j = jacobian(model, x)
    kernel = j @ j.T
    unit = y.square().sum(1).mean()
    f = torch.zeros(y.numel(), dtype=y.dtype)
    for _ in range(steps):
        f = f - lr * kernel @ (2 / (len(y) * unit) * (f - y.flatten()))
    return f.reshape(y.shape)


def descend(model: nn.Module, x: Tensor, y: Tensor, gamma: float, steps: int, optimizer) -> nn.Module:
    """A copy trained on f = (net - net0) / gamma by `optimizer(parameters)`, full batch."""
    net, start = copy.deepcopy(model), copy.deepcopy(model)
    opt = optimizer(net.parameters())
    unit = y.square().sum(1).mean()
    for _ in range(steps):
        opt.zero_grad()
        f = (net(x) - start(x).detach()) / gamma
        ((f - y).square().sum(1).mean() / unit).backward()
        opt.step()
    return net
