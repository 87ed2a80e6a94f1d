"""Slow definitions for paired capacities: singular value decompositions and leave-one-out loops."""

from __future__ import annotations

import numpy as np


def shared_directions(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """U' z along the right singular vectors of the unit rows of x (k, N), one draw at a time."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    u, s, vh = np.linalg.svd(unit, full_matrices=False)
    kept = s > 1e-10 * s[0]
    return np.stack([sum((u[:, i] @ row) * vh[i] for i in np.flatnonzero(kept)) for row in z])


def difference_stderr(a: np.ndarray, b: np.ndarray, n_manifolds: int) -> tuple[float, float, float]:
    """Jackknife errors over pairs of draws of P/mean(b) - P/mean(a), of its log ratio, and of (mean(b) - mean(a))/P."""
    values = []
    for i in range(len(a)):
        alpha_a, alpha_b = (n_manifolds / np.delete(p2, i).mean() for p2 in (a, b))
        values.append((alpha_b - alpha_a, np.log(alpha_b / alpha_a), 1 / alpha_b - 1 / alpha_a))
    moved = np.array(values) - np.mean(values, axis=0)
    found = np.sqrt((len(a) - 1) / len(a) * (moved**2).sum(0))
    return float(found[0]), float(found[1]), float(found[2])
