"""Slow definitions of the geometry per class and pair, and of errors: loops, pseudo-inverses, leaving draws out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def anchors_and_centres(
    x: np.ndarray, multipliers: list[np.ndarray], use: np.ndarray
) -> tuple[list[dict[int, np.ndarray]], dict[int, np.ndarray]]:
    """Anchors per draw and their means, from dense multipliers (P, M) per draw of (P, M, N) points."""
    anchors = [
        {i: l[i] @ x[i] / l[i].sum() for i in range(len(x)) if l[i].sum() > 0} if used else {}
        for l, used in zip(multipliers, use, strict=True)
    ]
    found = {i: [a[i] for a in anchors if i in a] for i in range(len(x))}
    return anchors, {i: np.mean(s, axis=0) for i, s in found.items() if s}


def radius_mean(x: np.ndarray, t: np.ndarray, multipliers: list[np.ndarray], use: np.ndarray) -> float:
    """Mean over draws of sqrt(c / (b - c))."""
    anchors, centers = anchors_and_centres(x, multipliers, use)
    values = []
    for draw, a in enumerate(anchors):
        if a:
            s0 = np.stack([centers[i] for i in sorted(a)])
            s1 = np.stack([a[i] - centers[i] for i in sorted(a)])
            z = s1 @ t[draw]
            b = z @ np.linalg.pinv(s1 @ s1.T, rcond=1e-10) @ z
            c = z @ np.linalg.pinv(s0 @ s0.T + s1 @ s1.T, rcond=1e-12) @ z
            values.append(np.sqrt(c / (b - c)))
    return float(np.mean(values))


def per_manifold(
    x: np.ndarray, t: np.ndarray, y: np.ndarray, multipliers: list[np.ndarray], use: np.ndarray
) -> dict[str, np.ndarray]:
    """Cost, share active, norms of anchors and centres, spread of the anchors about their centre."""
    anchors, centers = anchors_and_centres(x, multipliers, use)
    cost = np.zeros((len(t), len(x)))
    for draw, l in enumerate(multipliers):
        parts = y[draw, :, None] * np.einsum("pm,pmn->pn", l, x)
        cost[draw] = parts @ parts.sum(0)
    seen = {i: [a[i] for a in anchors if i in a] for i in range(len(x))}
    return {
        "cost": cost[np.asarray(use)].mean(0),
        "active": np.array([len(seen[i]) / use.sum() for i in seen]),
        "anchor_norm": np.array([np.mean([np.linalg.norm(s) for s in seen[i]]) for i in seen]),
        "center_norm": np.array([np.linalg.norm(centers[i]) for i in seen]),
        "axis_ratio": np.array([
            np.sqrt(np.mean([(s - centers[i]) @ (s - centers[i]) for s in seen[i]])) / np.linalg.norm(centers[i])
            for i in seen
        ]),
    }  # fmt: skip


def per_pair(x: np.ndarray, multipliers: list[np.ndarray], use: np.ndarray) -> dict[str, np.ndarray]:
    """Cosines of centres (signed), of axes, and of centre i with axis j; NaN on the diagonal."""
    anchors, centers = anchors_and_centres(x, multipliers, use)
    out = {
        name: np.full((len(x), len(x)), np.nan) for name in ("center_cosine", "axis_alignment", "center_axis_alignment")
    }
    for i in range(len(x)):
        for j in range(len(x)):
            if i == j:
                continue
            out["center_cosine"][i, j] = _cos(centers[i], centers[j])
            both = [a for a in anchors if i in a and j in a]
            out["axis_alignment"][i, j] = np.mean([abs(_cos(a[i] - centers[i], a[j] - centers[j])) for a in both])
            out["center_axis_alignment"][i, j] = np.mean(
                [abs(_cos(centers[i], a[j] - centers[j])) for a in anchors if j in a]
            )
    return out


def jackknife_se(value: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """Standard error of value(rows) by leaving out one of n draws at a time (Efron 1982, eq. 3.1)."""
    values = np.stack([value(np.delete(np.arange(n), d)) for d in range(n)])
    return np.sqrt((n - 1) / n * np.square(values - values.mean(0)).sum(0))


def _cos(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
