"""The events of a run from their definitions: one gradient, one sample, one record at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def kernel(model: nn.Module, inputs: Tensor) -> np.ndarray:
    """Tangent kernel summed over outputs, from plain gradients of every output at every sample."""
    model = copy.deepcopy(model).double()
    rows = []
    for x in inputs.double():
        outputs = model(x[None])[0]
        grads = [torch.autograd.grad(o, list(model.parameters()), retain_graph=True) for o in outputs]
        rows.append(torch.stack([torch.cat([g.flatten() for g in one]) for one in grads]))
    n = len(rows)
    return np.array([[float((rows[i] * rows[j]).sum()) for j in range(n)] for i in range(n)])


def angle(new: np.ndarray, old: np.ndarray) -> float:
    """Angle between kernels without their row and column means."""
    keep = np.eye(len(new)) - 1 / len(new)
    a, b = keep @ new @ keep, keep @ old @ keep
    # By the chord: arccos of a cosine near 1 would lose half of the digits.
    chord = np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))
    return 2 * math.asin(min(1.0, chord / 2))


def reached(steps: Sequence[float], values: Sequence[float], level: float) -> float:
    """First crossing of a level on the straight lines between records, on a grid of 1e-5 of each."""
    for (t0, v0), (t1, v1) in zip(
        list(zip(steps, values, strict=True))[:-1], list(zip(steps, values, strict=True))[1:], strict=True
    ):
        grid = np.linspace(0, 1, 100_001)
        hit = np.nonzero(v0 + grid * (v1 - v0) >= level)[0]
        if len(hit):
            return float(t0 + grid[hit[0]] * (t1 - t0))
    return math.nan


def numbers(
    models: Sequence[nn.Module], steps: Sequence[float], train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor],
    *, centered: bool,
) -> dict[str, float]:  # fmt: skip
    """fit_time, test_time, turn_at_fit, furthest_turn, late_share of a run on classes."""
    first = copy.deepcopy(models[0]).double()

    def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
        model, right = copy.deepcopy(model).double(), 0
        for x, y in zip(*data, strict=True):
            f = model(x[None].double())[0]
            f = f - first(x[None].double())[0] if centered else f
            right += int(f.argmax()) == int(y)
        return right / len(data[1])

    old = kernel(models[0], train[0])
    turn = [angle(kernel(model, train[0]), old) for model in models]
    fit = reached(steps, [accuracy(m, train) for m in models], 0.99)
    at_fit = float(np.interp(fit, steps, turn))
    return {
        "fit_time": fit,
        "test_time": reached(steps, [accuracy(m, test) for m in models], 0.8),
        "turn_at_fit": at_fit,
        "furthest_turn": max(turn),
        "late_share": 1 - at_fit / max(turn),
    }
