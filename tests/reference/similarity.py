"""Similarities of two representations written from their definitions, slowly, in numpy."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh, orthogonal_procrustes, sqrtm


def center(x: np.ndarray) -> np.ndarray:
    return x - x.mean(0)


def whitened(x: np.ndarray, alpha: float) -> np.ndarray:
    """X (alpha I + (1 - alpha) (X'X)^-1/2), rescaled to the variance of X."""
    x = center(x)
    if alpha == 1:
        return x
    z = x @ (alpha * np.eye(x.shape[1]) + (1 - alpha) * np.linalg.inv(np.real(sqrtm(x.T @ x))))
    return z * np.linalg.norm(x) / np.linalg.norm(z)


def pad(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    d = max(a.shape[1], b.shape[1])
    return tuple(np.pad(x, ((0, 0), (0, d - x.shape[1]))) for x in (a, b))


def shape_distance(a: np.ndarray, b: np.ndarray, alpha: float = 1.0) -> float:
    """|A Q - B| at the best rotation, by scipy's solver."""
    a, b = pad(whitened(a, alpha), whitened(b, alpha))
    return float(np.linalg.norm(a @ orthogonal_procrustes(a, b)[0] - b))


def shape_angle(a: np.ndarray, b: np.ndarray, alpha: float = 1.0) -> float:
    """Angle between A Q and B at the best rotation."""
    a, b = pad(whitened(a, alpha), whitened(b, alpha))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.arccos(np.sum((a @ orthogonal_procrustes(a, b)[0]) * b)))


def canonical(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations, descending, and a's variates of unit norm, from the generalised eigenproblem of covariances."""
    a, b = center(a), center(b)
    saa, sbb, sab = a.T @ a, b.T @ b, a.T @ b
    values, directions = eigh(sab @ np.linalg.inv(sbb) @ sab.T, saa)
    order = np.argsort(-values)[: min(a.shape[1], b.shape[1])]
    return np.sqrt(np.clip(values[order], 0, 1)), a @ directions[:, order]


def components(x: np.ndarray, variance: float) -> np.ndarray:
    """Scores of the fewest principal components that hold a share of the variance."""
    x = center(x)
    values, vectors = np.linalg.eigh(x.T @ x)
    values, vectors = values[::-1], vectors[:, ::-1]
    for k in range(1, len(values) + 1):
        if values[:k].sum() >= variance * values.sum():
            return x @ vectors[:, :k]
    return x


def pwcca(a: np.ndarray, b: np.ndarray) -> float:
    correlations, variates = canonical(a, b)
    weights = [sum(abs(h @ unit) for unit in center(a).T) for h in variates.T]
    return float(np.dot(weights, correlations) / sum(weights))


def regression_r2(a: np.ndarray, b: np.ndarray) -> float:
    """Of b from a, with an intercept, by least squares."""
    design = np.column_stack([np.ones(len(a)), a])
    residual = b - design @ np.linalg.lstsq(design, b, rcond=None)[0]
    return float(1 - np.sum(residual**2) / np.sum(center(b) ** 2))


def neighbours(x: np.ndarray, k: int, metric: str) -> list[set[int]]:
    found = []
    for i in range(len(x)):

        def away(j: int, i: int = i) -> float:
            if metric == "cosine":
                return -float(x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]))
            return float(np.linalg.norm(x[i] - x[j]))

        found.append(set(sorted((j for j in range(len(x)) if j != i), key=away)[:k]))
    return found
