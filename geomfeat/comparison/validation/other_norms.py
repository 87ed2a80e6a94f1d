"""Demand and movement in other norms than the features': of the weights, and of the tangent kernel.

The linear response moves the parameters by Dtheta. What R is for features has a counterpart in whatever else training
moves: log10 of how far it would have moved to first order, over its initial size; and how far it did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from geomfeat.location.initial_states import Start
from geomfeat.models.functional import functional
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.tangent import ntk, vjp

Pair = tuple[float, float]
PROBES = 40  # samples on which the kernel is computed
# Relative step of the derivative of the kernel: so small that no ReLU gate changes on the way, as in J itself.
STEP = 1e-6


def weight_norms(start: Start, trained: nn.Module) -> dict[str, Pair]:
    """Module -> (demand, movement) of its parameters, decades: log10 |Dtheta_l| / |theta_l| and what training did.

    Modules whose parameters start at zero are left out; what cannot or did not move reads -inf.
    """
    scale = start.task.f.scale
    demanded, before = (
        _groups({name: value * scale.get(name, 1.0) for name, value in found.items()})
        for found in (_direction(start), start.task.f.theta)
    )
    after = _groups(functional(trained, dtype=start.task.f.dtype, device=start.task.f.device).theta)
    found = {}
    for name, parts in before.items():
        size = _norm(parts)
        if size > 0:
            moved = {key: after[name][key] - parts[key] for key in parts}
            found[name] = (_log(_norm(demanded.get(name, {})) / size), _log(_norm(moved) / size))
    return found


def kernel_norms(start: Start, trained: nn.Module) -> Pair:
    """(demand, movement) of the tangent kernel traced over outputs, decades, on every so many of the probes.

    Demand: the derivative of the kernel along the linear response, by central differences.
    """
    f = start.task.f
    n = n_samples(start.task.inputs)
    inputs = take(start.task.inputs, torch.arange(min(PROBES, n)) * n // min(PROBES, n))
    direction = _direction(start)
    h = STEP * _norm(f.theta) / max(_norm(direction), 1e-300)

    def kernel_at(along: float) -> Tensor:
        theta = {k: v + along * direction[k] if k in direction else v for k, v in f.theta.items()}
        return ntk(replace(f, theta=theta), inputs).gram

    initial = kernel_at(0.0)
    end = ntk(functional(trained, dtype=f.dtype, device=f.device, readout=f.readout).scaled(f.scale), inputs).gram
    size, slope = float(initial.norm()), float((kernel_at(h) - kernel_at(-h)).norm()) / (2 * h)
    return _log(slope / size), _log(float((end - initial).norm()) / size)


def _direction(start: Start) -> dict[str, Tensor]:
    """Dtheta = J' a, in the coordinates of the task."""
    coefficients = start.demand.response.coefficients.reshape(start.task.change.shape)
    return vjp(start.task.f, start.task.inputs, coefficients)


def _groups(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        module, _, own = name.rpartition(".")
        found.setdefault(module or own, {})[own] = value
    return found


def _norm(parts: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(v.double().square().sum()) for v in parts.values()))


def _log(ratio: float) -> float:
    return math.log10(ratio) if ratio > 0 else -math.inf
