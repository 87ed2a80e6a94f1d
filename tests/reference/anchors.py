"""Slow multipliers of the capacity problem: non-negative least squares in float64, and of several the least."""

from __future__ import annotations

import numpy as np
from scipy.linalg import null_space
from scipy.optimize import nnls

# A point touches the supporting plane, or t lies in the span, to this share of |t|.
TOUCH = 1e-9


def least_norm(points: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The l >= 0 of least norm with l @ points = p, by least distance programming.

    Lawson & Hanson 1974, chapter 23, section 4: with l = c + N z, N the null space and c a solution across it, the z of
    least norm with N z >= -c comes from the residual of the non-negative least squares of (0, 1) on the rows (N, -c).
    """
    points, p = points / np.linalg.norm(points, 2), p / np.linalg.norm(points, 2)
    free = null_space(points.T, rcond=1e-11)
    some = nnls(points.T, p, maxiter=100 * len(points))[0]
    scale = np.linalg.norm(some)
    c = (some - free @ (free.T @ some)) / scale
    rows = np.column_stack([free, -c])
    e = np.r_[np.zeros(free.shape[1]), 1.0]
    rest = e - nnls(rows.T, e, maxiter=1000 * len(points))[0] @ rows
    l = scale * (c - free @ (rest[:-1] / rest[-1]))
    l[l < 1e-10 * l.max()] = 0.0
    assert np.linalg.norm(l @ points - p) <= 1e-9 * np.linalg.norm(p)
    return l


def canonical(x: np.ndarray, t: np.ndarray, y: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Multipliers (P, M) of every draw, whether its anchors are defined, and |p|^2; x (P, M, N).

    Of copies within a class the first carries all. Where t lies in its cone, anchors are defined for linearly
    independent points alone.
    """
    n_manifolds, m, n = x.shape
    flat = x.reshape(-1, n)
    owner = np.repeat(np.arange(n_manifolds), m)
    _, first = np.unique(np.column_stack([owner, flat]), axis=0, return_index=True)
    kept = np.sort(first[np.linalg.norm(flat[first], axis=1) > 0])
    points, owner = flat[kept], owner[kept]
    independent = np.linalg.matrix_rank(points) == len(points)
    dense, used, norms2 = [], [], []
    for direction, signs in zip(t, y, strict=True):
        cone = points * signs[owner][:, None]
        unit = cone / np.linalg.norm(cone, axis=1, keepdims=True)
        v = direction - nnls(unit.T, direction, maxiter=100 * len(cone))[0] @ unit
        p = direction - v
        touch = np.abs(unit @ v) <= TOUCH * np.linalg.norm(direction)
        inside = bool(touch.all())
        l = np.zeros(len(flat))
        if np.linalg.norm(p) > 1e-12:
            l[kept[touch]] = least_norm(cone[touch], p) if not inside or independent else 0.0
        dense.append(l.reshape(n_manifolds, m))
        used.append(not inside or independent)
        norms2.append(p @ p)
    return dense, np.array(used), np.array(norms2)
