"""Width scaling's quantities of a bias-free multilayer perceptron, by explicit matrices and one number at a time."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tests.reference.lazy import jacobian


def matrices(model: nn.Module) -> list[Tensor]:
    """The matrices that multiply the features, each layer's multiplier included."""
    return [getattr(m, "multiplier", 1.0) * m.weight.detach() for m in model if hasattr(m, "weight")]


def preactivations(weights: list[Tensor], x: Tensor, phi) -> list[Tensor]:
    """h_1, ..., h_L of every sample: h_l = W_l phi(h_(l-1))."""
    rows: list[list[Tensor]] = [[] for _ in weights]
    for sample in x.flatten(1):
        signal = sample
        for depth, w in enumerate(weights):
            h = w @ signal
            rows[depth].append(h)
            signal = phi(h)
    return [torch.stack(r) for r in rows]


def size(change: Tensor) -> float:
    """Root mean square over samples of the l2 norm."""
    squares = [float((row**2).sum()) for row in change]
    return (sum(squares) / len(squares)) ** 0.5


def quantities(before: nn.Module, after: nn.Module, x: Tensor, gamma: float, phi, names: list[str]) -> dict:
    """(quantity, layer) -> number."""
    old, new = matrices(before), matrices(after)
    h0, h1 = preactivations(old, x, phi), preactivations(new, x, phi)
    out = {}
    for depth, name in enumerate(names):
        x0, x1 = (x.flatten(1), x.flatten(1)) if depth == 0 else (phi(h0[depth - 1]), phi(h1[depth - 1]))
        out["feature_change", name] = size(h1[depth] - h0[depth])
        out["direct", name] = size(x0 @ (new[depth] - old[depth]).T)
        out["inherited", name] = size((x1 - x0) @ old[depth].T)
        change, start = (torch.linalg.svdvals(m)[0] for m in (new[depth] - old[depth], old[depth]))
        out["spectral_update", name] = float(change / start)
    out["initial_output", ""] = size(h0[-1]) / gamma
    out["output_change", ""] = size(h1[-1] - h0[-1]) / gamma
    out["useful_update", ""] = size((phi(h1[-2]) - phi(h0[-2])) @ old[-1].T) / gamma
    step = torch.cat([(q - p).detach().flatten() for p, q in zip(before.parameters(), after.parameters(), strict=True)])
    linear = (jacobian(copy.deepcopy(before), x) @ step).reshape(h0[-1].shape)
    out["second_order", ""] = size(h1[-1] - h0[-1] - linear) / gamma
    return out
