"""Noise-corrected capacity from the definition: Gram matrices and loops, and a polynomial solved for at noise 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geomfeat.geometry.manifolds import capacity


def without_noise(points: np.ndarray, noise: np.ndarray, power: float) -> np.ndarray:
    """Points (P, M, N) with noise (P, M) taken off the eigenvalues of each class's Gram matrix, of total `power`."""
    out, totals = [], []
    for own, each in zip(points, noise, strict=True):
        d = own - own.mean(0)
        values, vectors = np.linalg.eigh(d @ d.T)
        kept = values > 1e-9 * values.max()  # all but the direction of the mean
        left = np.where(kept, np.maximum(values - each.mean(), 0.0), 0.0)
        ratio = np.where(kept, np.sqrt(left / np.where(kept, values, 1.0)), 0.0)
        out.append(vectors @ np.diag(ratio) @ vectors.T @ d)
        totals.append(left.sum())
    scale = np.sqrt(max(power, 0.0) / sum(totals))
    return np.stack([own.mean(0) + scale * d for own, d in zip(points, out, strict=True)])


def corrected(
    trials: np.ndarray, blocks: Sequence[Sequence[np.ndarray]], draws: Any, names: tuple[str, ...]
) -> dict[str, float]:
    """Numbers of trials (P, M, K, N) at noise 0; blocks[level][turn] (P, M, K): the block of each trial."""
    p, m, k, _ = trials.shape
    variance = trials.var(2, ddof=1).sum(-1)
    means = trials.mean(2)
    deviations = means - means.mean(1, keepdims=True)
    power = (deviations**2).sum() - (variance / k).sum() * (1 - 1 / m)
    levels, rows = [], []
    for turns in blocks:
        found = []
        noises = []
        for block in turns:
            for b in range(int(block.max()) + 1):
                points, noise = np.empty_like(means), np.empty((p, m))
                for i in range(p):
                    for j in range(m):
                        inside = block[i, j] == b
                        points[i, j] = trials[i, j][inside].mean(0)
                        noise[i, j] = variance[i, j] / inside.sum()
                noises.append(noise.sum())
                one = capacity(without_noise(points, noise, power), draws=draws, resample=None)
                found.append([getattr(one, name) for name in names])
        levels.append(np.mean(noises))
        table = np.array(found)
        inverse = [i for i, name in enumerate(names) if name in ("capacity", "capacity_faces")]
        table[:, inverse] = 1 / table[:, inverse]
        rows.append(table.mean(0))
    x = np.array(levels) / levels[0]
    at_zero = np.linalg.solve(np.vander(x, increasing=True), np.array(rows))[0]
    return {
        name: float(1 / value if name in ("capacity", "capacity_faces") else value)
        for name, value in zip(names, at_zero, strict=True)
    }
