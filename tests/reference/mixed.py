"""Two-layer linear networks, slowly and from the definitions: weights stepped one by one, roots of whole matrices."""

from __future__ import annotations

import numpy as np


def descend(first: np.ndarray, second: np.ndarray, target: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """W2 W1 after gradient descent on |W2 W1 - Y|^2 / 2, with the weights themselves."""
    w1, w2 = first.copy(), second.copy()
    for _ in range(steps):
        gap = w2 @ w1 - target
        w1, w2 = w1 - rate * w2.T @ gap, w2 - rate * gap @ w1.T
    return w2 @ w1


def root(matrix: np.ndarray) -> np.ndarray:
    """The positive square root of a symmetric positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T


def velocity(a: np.ndarray, y: np.ndarray, threshold: float) -> np.ndarray:
    """Tu, Aranguri and Jacot 2024, equation 1."""
    rows, columns = a.shape
    left = root(a @ a.T + threshold**2 * np.eye(rows))
    right = root(a.T @ a + threshold**2 * np.eye(columns))
    return -(left @ (a - y) + (a - y) @ right)


def mode_ratio(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strength and rho of every mode of W2 W1, one singular triplet at a time."""
    u, s, vh = np.linalg.svd(second @ first, full_matrices=False)
    rho = []
    for i in range(min(len(s), len(first))):
        p, q = first @ vh[i], second.T @ u[:, i]
        half = (p @ p + q @ q) / 2
        rho.append(s[i] / np.sqrt(half**2 - s[i] ** 2))
    return s[: len(rho)], np.array(rho)
