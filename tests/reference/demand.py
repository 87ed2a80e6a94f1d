"""Demand by the definition: one gradient at a time, gradient flow stepped in small steps, tangents by differences."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def gradients(model: nn.Module, inputs: Tensor) -> Tensor:
    """(n C, p): the gradient of every output of every sample, one at a time."""
    rows = []
    for x in inputs:
        for value in model(x[None])[0].flatten():
            found = torch.autograd.grad(value, list(model.parameters()), retain_graph=True, allow_unused=True)
            parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, model.parameters(), strict=True)]
            rows.append(torch.cat([g.flatten() for g in parts]))
    return torch.stack(rows)


def displacement(jacobian: Tensor, change: Tensor, share_left: float) -> Tensor:
    """Parameters' displacement of the linear model when `share_left` of |change|^2 is left, by Runge-Kutta steps."""

    def velocity(theta: Tensor) -> Tensor:
        return jacobian.mT @ (change - jacobian @ theta)

    top = float(torch.linalg.matrix_norm(jacobian, 2)) ** 2
    theta = torch.zeros(jacobian.shape[1], dtype=jacobian.dtype)
    goal, step = share_left * float(change.square().sum()), 0.2 / top
    for _ in range(2_000_000):
        before = theta
        k1 = velocity(theta)
        k2 = velocity(theta + step / 2 * k1)
        k3 = velocity(theta + step / 2 * k2)
        k4 = velocity(theta + step * k3)
        theta = theta + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        if float((change - jacobian @ theta).square().sum()) < goal:
            return 0.5 * (before + theta)
    raise RuntimeError("the linear model did not get there")


def demand(
    model: nn.Module, inputs: Tensor, change: Tensor, layers: Sequence[str], share_left: float
) -> dict[str, float]:
    """R of every layer."""
    model = copy.deepcopy(model).double().eval()
    direction = displacement(gradients(model, inputs), change.flatten(), share_left)
    small = 1e-6 / float(direction.norm())

    def features(shift: float) -> dict[str, Tensor]:
        moved, found, at = copy.deepcopy(model), {}, 0
        with torch.no_grad():
            for p in moved.parameters():
                p += shift * direction[at : at + p.numel()].reshape(p.shape)
                at += p.numel()
        for name in layers:
            moved.get_submodule(name).register_forward_hook(
                lambda module, args, out, name=name: found.__setitem__(name, out.detach().clone())
            )
        moved(inputs)
        return found

    plus, minus, here = features(small), features(-small), features(0.0)
    return {
        name: math.log10(float((plus[name] - minus[name]).norm()) / (2 * small) / float(here[name].norm()))
        for name in layers
    }
