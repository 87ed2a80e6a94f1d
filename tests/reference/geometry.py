"""Slow definitions of what geomfeat.geometry computes: loops, enumeration, pseudo-inverses, linear programmes."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linprog


def cone_projection(generators: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Nearest point of {sum l g : l >= 0} to t, by trying every subset of the generators (k <= 10)."""
    best, nearest = np.zeros_like(t), float(t @ t)
    for size in range(1, min(generators.shape) + 1):
        for subset in itertools.combinations(range(len(generators)), size):
            rows = generators[list(subset)]
            l, *_ = np.linalg.lstsq(rows.T, t, rcond=None)
            p = l @ rows
            if (l >= -1e-12).all() and (t - p) @ (t - p) < nearest - 1e-14:
                best, nearest = p, float((t - p) @ (t - p))
    return best


def glue(
    x: np.ndarray, t: np.ndarray, y: np.ndarray, multipliers: list[np.ndarray], use: np.ndarray, e_p2: float
) -> dict[str, float]:
    """Dimension, radius, utility, alignments of (P, M, N) points from dense multipliers (P, M) per draw."""
    n_manifolds = x.shape[0]
    anchors = [
        {i: l[i] @ x[i] / l[i].sum() for i in range(n_manifolds) if l[i].sum() > 0} if used else {}
        for l, used in zip(multipliers, use, strict=True)
    ]
    centers = {}
    for i in range(n_manifolds):
        found = [a[i] for a in anchors if i in a]
        if found:
            centers[i] = np.mean(found, axis=0)
    b, c = [], []
    axis_cos: dict[tuple[int, int], list[float]] = {}
    mixed_cos: dict[tuple[int, int], list[float]] = {}
    for draw, a in enumerate(anchors):
        if not use[draw]:
            continue
        active = sorted(a)
        if not active:
            b, c = [*b, 0.0], [*c, 0.0]
            continue
        s0 = np.stack([y[draw, i] * centers[i] for i in active])
        s1 = np.stack([y[draw, i] * (a[i] - centers[i]) for i in active])
        z = s1 @ t[draw]
        b.append(z @ np.linalg.pinv(s1 @ s1.T, rcond=1e-10) @ z)
        c.append(z @ np.linalg.pinv(s0 @ s0.T + s1 @ s1.T, rcond=1e-12) @ z)
        for i, j in itertools.permutations(active, 2):
            axis_cos.setdefault((i, j), []).append(_cos(a[i] - centers[i], a[j] - centers[j]))
        for i, j in itertools.product(centers, active):
            if i != j:
                mixed_cos.setdefault((i, j), []).append(_cos(centers[i], a[j] - centers[j]))
    mean_b, mean_c = np.mean(b), np.mean(c)
    return {
        "dimension": mean_b / n_manifolds,
        "radius": np.sqrt(mean_c / (mean_b - mean_c)),
        "utility": mean_c / e_p2,
        "center_alignment": np.mean([_cos(centers[i], centers[j]) for i, j in itertools.permutations(centers, 2)]),
        "axis_alignment": np.mean([np.mean(v) for v in axis_cos.values()]),
        "center_axis_alignment": np.mean([np.mean(v) for v in mixed_cos.values()]),
    }


def _cos(a: np.ndarray, b: np.ndarray) -> float:
    return abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))


def separable(rows: np.ndarray) -> bool:
    """Is there a w with rows @ w > 0 everywhere? Largest margin within the unit box, by a linear programme."""
    k, d = rows.shape
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    answer = linprog(
        np.r_[np.zeros(d), -1.0],
        A_ub=np.c_[-rows, np.ones(k)],
        b_ub=np.zeros(k),
        bounds=[(-1, 1)] * d + [(None, 1)],
        method="highs",
    )
    return -answer.fun > 1e-7


def covariance_eigenvalues(x: np.ndarray) -> np.ndarray:
    values = np.linalg.eigvalsh(np.cov(x.T).reshape(x.shape[1], x.shape[1]))
    return np.sort(values[values > 1e-12 * values.max()])[::-1]


def participation_ratio(x: np.ndarray) -> float:
    values = covariance_eigenvalues(x)
    return values.sum() ** 2 / (values**2).sum()


def participation_ratio_unbiased(x: np.ndarray) -> float:
    """Means over all ordered quadruples of distinct samples."""
    above, below = [], []
    for i, j, k, l in itertools.permutations(range(len(x)), 4):
        a, b = x[i] - x[j], x[k] - x[l]
        above.append((a @ a) * (b @ b) / 4)
        below.append((a @ b) ** 2 / 4)
    return np.mean(above) / np.mean(below)


def effective_rank(x: np.ndarray) -> float:
    share = covariance_eigenvalues(x) / covariance_eigenvalues(x).sum()
    return np.exp(-sum(s * np.log(s) for s in share))


def two_nn(x: np.ndarray) -> float:
    total = 0.0
    for i, a in enumerate(x):
        distances = sorted(np.linalg.norm(a - b) for j, b in enumerate(x) if j != i)
        total += np.log(distances[1] / distances[0])
    return (len(x) - 1) / total


def two_nn_linear(x: np.ndarray, discard: float = 0.1) -> float:
    log_mu = []
    for i, a in enumerate(x):
        distances = sorted(np.linalg.norm(a - b) for j, b in enumerate(x) if j != i)
        log_mu.append(np.log(distances[1] / distances[0]))
    kept = sorted(log_mu)[: int(len(x) * (1 - discard))]
    y = [-np.log(1 - (i + 1) / len(x)) for i in range(len(kept))]
    return np.linalg.lstsq(np.array(kept)[:, None], np.array(y), rcond=None)[0][0]


def nc1(x: np.ndarray, labels: np.ndarray) -> float:
    classes = np.unique(labels)
    means = np.stack([x[labels == c].mean(0) for c in classes])
    d = x.shape[1]
    within = np.zeros((d, d))
    for c, mean in zip(classes, means, strict=True):
        rows = x[labels == c] - mean
        within += rows.T @ rows / len(rows) / len(classes)
    centered = means - means.mean(0)
    between = centered.T @ centered / len(classes)
    return np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / len(classes)
