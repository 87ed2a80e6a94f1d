"""Kernels and their comparison written from the definitions, slowly: one gradient at a time, sums over all tuples."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


def gradients_by_loop(model: nn.Module, x: object, names: tuple[str, ...] = ("",)) -> Tensor:
    """(n, C, p): one backward pass per sample and output, each sample in a batch of its own.

    `names`: prefixes of the parameters that count.
    """
    model = copy.deepcopy(model).double().eval()
    parameters = [p for k, p in model.named_parameters() if p.requires_grad and k.startswith(names)]
    n = len(x[0]) if isinstance(x, tuple) else len(x)
    rows = []
    for i in range(n):
        for c in itertools.count():
            model.zero_grad()
            out = model(*_sample(x, i)).reshape(-1)
            if c >= len(out):
                break
            out[c].backward()
            flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            rows.append(torch.cat([g.reshape(-1) for g in flat]))
    return torch.stack(rows).reshape(n, -1, rows[0].numel())


def _sample(x: object, i: int) -> tuple[Tensor, ...]:
    parts = x if isinstance(x, tuple) else (x,)
    return tuple(t[i : i + 1].double() if t.is_floating_point() else t[i : i + 1] for t in parts)


def ntk_by_loop(model: nn.Module, x: object, x2: object = None, names: tuple[str, ...] = ("",)) -> Tensor:
    """(n1, n2, C, C) tangent kernel, entry by entry from its definition."""
    a = gradients_by_loop(model, x, names).cpu().numpy()
    b = a if x2 is None else gradients_by_loop(model, x2, names).cpu().numpy()
    out = np.zeros((len(a), len(b), a.shape[1], b.shape[1]))
    for i, j, c, d in itertools.product(*map(range, out.shape)):
        out[i, j, c, d] = np.dot(a[i, c], b[j, d])
    return torch.from_numpy(out)


def gram_by_loop(x: np.ndarray) -> np.ndarray:
    """Inner products of rows."""
    return np.array([[sum(p * q for p, q in zip(a, b, strict=True)) for b in x] for a in x])


def rbf_by_loop(x: np.ndarray, fraction: float) -> np.ndarray:
    """Gaussian kernel with the lower median of all n^2 squared distances."""
    squared = np.array([[sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) for b in x] for a in x])
    median = sorted(squared.ravel())[(squared.size - 1) // 2]
    return np.exp(-squared / (2 * fraction**2 * median))


def hsic_by_definition(k: np.ndarray, l: np.ndarray, estimator: str) -> float:
    """Biased: the V-statistic tr(KHLH)/(n-1)^2. Unbiased: the U-statistic, a mean over all ordered 4-tuples."""
    n = len(k)
    if estimator == "biased":
        h = np.eye(n) - np.ones((n, n)) / n
        return float(np.trace(k @ h @ l @ h)) / (n - 1) ** 2
    total = sum(k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in itertools.permutations(range(n), 4))
    return float(total) / math.perm(n, 4)


def cka_by_definition(k: np.ndarray, l: np.ndarray, estimator: str) -> float:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))."""
    own = hsic_by_definition(k, k, estimator) * hsic_by_definition(l, l, estimator)
    return hsic_by_definition(k, l, estimator) / math.sqrt(own)


def d_lr_by_definition(features: np.ndarray, outputs: np.ndarray) -> float:
    """1 - biased CKA of the feature kernel and the projector on the centred outputs, as matrices."""
    y = outputs - outputs.mean(0)
    projector = y @ np.linalg.pinv(y)
    return 1 - cka_by_definition(features @ features.T, projector, "biased")


def jackknife_by_loop(statistic: Callable[[list[int]], float], n: int) -> float:
    """Standard error from the statistic recomputed without each sample."""
    values = [statistic([j for j in range(n) if j != i]) for i in range(n)]
    mean = sum(values) / n
    return math.sqrt((n - 1) / n * sum((v - mean) ** 2 for v in values))
