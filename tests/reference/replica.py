"""Replica mean-field capacity from its definition: one quadratic programme per draw, plain numpy and scipy."""

from __future__ import annotations

import numpy as np
from scipy.integrate import dblquad
from scipy.optimize import minimize, nnls


def solve(frame: np.ndarray, t: np.ndarray, kappa: float) -> np.ndarray:
    """argmin |v - t|^2 subject to frame v <= -kappa."""
    found = minimize(
        lambda v: 0.5 * ((v - t) ** 2).sum(),
        np.append(np.zeros(len(t) - 1), -kappa - 1.0),
        jac=lambda v: v - t,
        constraints={"type": "ineq", "fun": lambda v: -kappa - frame @ v, "jac": lambda v: -frame},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return found.x


def anchor(frame: np.ndarray, t: np.ndarray, kappa: float) -> tuple[np.ndarray, float]:
    """The anchor s~ (last coordinate 1) and its share of 1 / alpha."""
    if (frame @ t).max() <= -kappa:
        return frame[np.argmax(frame @ t)], 0.0
    v = solve(frame, t, kappa)
    z, _ = nnls(frame.T, t - v)
    s = (t - v) / z.sum()
    return s, max(t @ s + kappa, 0) ** 2 / (s @ s)


def geometry(frame: np.ndarray, draws: np.ndarray, kappa: float) -> tuple[float, float, float]:
    """1 / alpha, R and D."""
    anchors, shares = zip(*(anchor(frame, t, kappa) for t in draws), strict=True)
    s = np.array(anchors)[:, :-1]
    moved = s - s.mean(0)
    squares = [m @ m for m in moved]
    components = [(t[:-1] @ m / np.sqrt(m @ m)) ** 2 for t, m in zip(draws, moved, strict=True)]
    return np.mean(shares), np.sqrt(np.sum(squares) / (len(s) - 1)), np.mean(components)


def frame(points: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """(points - their mean) / |their mean|, all relative to the mean of everything, in a basis by Gram-Schmidt."""
    x = points - everything.mean(0)
    center = x.mean(0)
    delta = (x - center) / np.sqrt(center @ center)
    basis: list[np.ndarray] = []
    for row in delta:
        left = row - sum((row @ b) * b for b in basis)
        left = left - sum((left @ b) * b for b in basis)
        if np.sqrt(left @ left) > 1e-9:
            basis.append(left / np.sqrt(left @ left))
    inside = delta @ np.array(basis).T if basis else np.zeros((len(delta), 0))
    return np.column_stack([inside, np.ones(len(delta))])


def center_correlation(classes: list[np.ndarray]) -> float:
    mean = np.concatenate(classes).mean(0)
    centers = [c.mean(0) - mean for c in classes]
    cosines = [
        abs(a @ b) / np.sqrt((a @ a) * (b @ b)) for i, a in enumerate(centers) for j, b in enumerate(centers) if i != j
    ]
    return float(np.mean(cosines))


def disc_load(radius: float, kappa: float) -> float:
    """1 / alpha of a disc: squared distance to the polar cone, integrated over the plane (length, centre)."""

    def squared(z: float, a: float) -> float:
        b = z + kappa
        if b <= -radius * a:
            return 0.0
        inside = a * a + b * b if a <= radius * b else (radius * a + b) ** 2 / (1 + radius**2)
        return inside * a * np.exp(-(a * a + z * z) / 2) / np.sqrt(2 * np.pi)

    return dblquad(squared, 0, 9, -9, 9, epsabs=1e-9, epsrel=1e-9)[0]
