"""Activations by the definition, without hooks: one sample at a time, through wrapped forward methods."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomfeat.models.functional import call
from geomfeat.models.nested_inputs import n_samples, take


def leaves(value: Any) -> list[Tensor]:
    """Every tensor of a nested value, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for inner in value for t in leaves(inner)] if isinstance(value, tuple | list) else []


def one_sample_at_a_time(model: nn.Module, inputs: Any) -> dict[str, list[list[Tensor]]]:
    """Module name -> one entry per tensor of its output -> (calls, n, d): flattened features.

    A copy of the model runs in evaluation mode on each sample by itself, so no axis can be mistaken for the samples'.
    """
    model = copy.deepcopy(model).eval()
    seen: dict[str, list[list[Tensor]]] = {}

    def wrap(name: str, module: nn.Module) -> None:
        original = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            seen.setdefault(name, []).append([t.detach().clone().flatten() for t in leaves(out)])
            return out

        module.forward = forward

    for name, module in model.named_modules():
        wrap(name, module)
    rows: dict[str, list[list[list[Tensor]]]] = {}
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            for i in range(n_samples(inputs)):
                seen.clear()
                call(model, take(inputs, slice(i, i + 1)))
                for name, calls in seen.items():
                    rows.setdefault(name, []).append(calls)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    return {
        name: [
            [torch.stack([sample[c][t] for sample in samples]) for c in range(len(samples[0]))]
            for t in range(len(samples[0][0]))
        ]
        for name, samples in rows.items()
    }


def reduced_by_loops(x: np.ndarray, how: str, mask: np.ndarray | None = None) -> np.ndarray:
    """`geomfeat.activations.reduction` with loops over samples, from the words of its docstring."""
    rows = []
    for i, sample in enumerate(x):
        valid = [t for t in range(len(sample)) if mask is None or mask[i][t]]
        if how == "flatten":
            rows.append(np.concatenate([sample[t].ravel() * (t in valid) for t in range(len(sample))]))
        elif how in ("mean", "max"):
            rows.append([getattr(channel, how)() for channel in sample])
        elif how.startswith("adaptive("):
            rows.append(_pooled(sample, int(how[9:-1])))
        elif how == "cls":
            rows.append(sample[valid[0]].ravel())
        elif how == "last":
            rows.append(sample[valid[-1]].ravel())
        elif how == "token_mean":
            rows.append(sum(sample[t] for t in valid).ravel() / len(valid))
        elif how == "token_all":
            rows.extend(sample[t].ravel() for t in valid)
        else:
            rows.append(sample[int(how[6:-1])].ravel())
    return np.array(rows)


def _pooled(sample: np.ndarray, k: int) -> np.ndarray:
    """Cell i of k along a dimension of length s averages positions floor(i s / k) to ceil((i + 1) s / k)."""
    out = []
    for channel in sample:
        cells = [[slice(i * s // k, -(-(i + 1) * s // k)) for i in range(k)] for s in channel.shape]
        out.append([channel[tuple(index)].mean() for index in _product(cells)])
    return np.concatenate(out)


def _product(cells: list[list[slice]]) -> list[list[slice]]:
    if not cells:
        return [[]]
    return [[first, *rest] for first in cells[0] for rest in _product(cells[1:])]
