"""The linearised network from its definition: the whole Jacobian by torch.func.jacrev, w0 and w as flat vectors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from geomfeat.models.functional import differentiable_attention


def full_jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """(n C, p) at the model's weights."""
    theta = {name: p.detach() for name, p in model.named_parameters()}
    with differentiable_attention():
        blocks = jacrev(lambda t: functional_call(model, t, (x,)).flatten())(theta)
    return torch.cat([b.flatten(1) for b in blocks.values()], 1)


def linear_outputs(model: nn.Module, moved: nn.Module, x: Tensor) -> Tensor:
    """f(w0) + J (w - w0), (n, C)."""
    step = torch.cat([(b - a).detach().flatten() for a, b in zip(model.parameters(), moved.parameters(), strict=True)])
    out = model(x).detach()
    return out + (full_jacobian(model, x) @ step).view_as(out)


def trained_linear_model(
    model: nn.Module, x: Tensor, y: Tensor, optimizer: Callable[[list[Tensor]], torch.optim.Optimizer], steps: int
) -> Tensor:
    """Outputs (n, C) of f(w0) + J d after `steps` of an optimizer on the sum of squares; d is one flat vector."""
    start, j = model(x).detach(), full_jacobian(model, x)
    d = torch.zeros(j.shape[1], dtype=j.dtype, requires_grad=True)
    descent = optimizer([d])
    for _ in range(steps):
        descent.zero_grad()
        (start + (j @ d).view_as(start) - y).square().sum().backward()
        descent.step()
    return (start + (j @ d).view_as(start)).detach()


def flow_of_outputs(kernel: Tensor, b: Tensor, time: float, steps: int) -> Tensor:
    """The residual r (m,) after gradient flow of |r|^2/|b|^2 from r = b, by Heun's method."""
    r, h = b.clone(), time / steps
    rate = 2 / b.square().sum()
    for _ in range(steps):
        first = -rate * kernel @ r
        r = r + h / 2 * (first - rate * kernel @ (r + h * first))
    return r
