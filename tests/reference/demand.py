"""Demand by the definition: one gradient at a time, gradient flow stepped in small steps, tangents by differences."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
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


def jacobian_in(model: nn.Module, value: Tensor, names: Sequence[str]) -> Tensor:
    """(entries, p): the gradient of every entry of a value in the named parameters, one at a time."""
    theta = [dict(model.named_parameters())[name] for name in names]
    rows = []
    for entry in value.flatten():
        found = torch.autograd.grad(entry, theta, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(t) if g is None else g for t, g in zip(theta, found, strict=True)]
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def demand_in(
    start: nn.Module,
    end: nn.Module,
    inputs: Any,
    names: Sequence[str],
    layer: str,
    outputs: Callable[[nn.Module, Any], Tensor] = lambda model, x: model(x),
    shares: Sequence[float] = tuple(np.logspace(-3, -1, 9)),
) -> float:
    """R of one layer from explicit Jacobians in the named parameters: mean over the shares of the change left."""
    model, last = copy.deepcopy(start).double().eval().requires_grad_(True), copy.deepcopy(end).double().eval()
    inputs = inputs.double() if isinstance(inputs, Tensor) and inputs.is_floating_point() else inputs
    features: dict[str, Tensor] = {}
    model.get_submodule(layer).register_forward_hook(
        lambda _module, _args, out: features.update(h=out[0] if isinstance(out, tuple) else out)
    )
    f = outputs(model, inputs)
    h, j = features["h"], jacobian_in(model, f, names)
    change = (outputs(last, inputs) - f).detach().flatten()
    w, u = torch.linalg.eigh(j @ j.T)
    w, along = w.clamp_min(0), u.T @ change
    of_features, size, found = jacobian_in(model, h, names), float(h.detach().norm()), []
    for share in shares:
        low, high = 0.0, 1e12
        for _ in range(200):
            t = math.sqrt(max(low, 1e-9) * high)
            left = float(((-w * t).exp() * along).norm()) / float(change.norm())
            low, high = (t, high) if left**2 > share else (low, t)
        direction = j.T @ (u @ (torch.where(w > 1e-12, -torch.expm1(-w * high) / w, high) * along))
        found.append(math.log10(float((of_features @ direction).norm()) / size))
    return float(np.mean(found))
