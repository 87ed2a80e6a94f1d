"""Two-layer linear networks from the definition: gradient flow by an ODE solver, kernels entry by entry."""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp


def flow(w1, w2, correlation, times):
    """Weights at `times` of dW1/dt = W2'(S - W2W1), dW2/dt = (S - W2W1)W1': arrays (T, ...), rtol 1e-11."""
    w1, w2, s = (np.asarray(a, dtype=float) for a in (w1, w2, correlation))
    cut = w1.size

    def slope(_, theta):
        a, b = theta[:cut].reshape(w1.shape), theta[cut:].reshape(w2.shape)
        error = s - b @ a
        return np.concatenate([(b.T @ error).ravel(), (error @ a.T).ravel()])

    out = solve_ivp(
        slope, (0.0, float(times[-1])), np.concatenate([w1.ravel(), w2.ravel()]), t_eval=times,
        method="DOP853", rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    assert out.success, out.message
    theta = out.y.T
    return theta[:, :cut].reshape(-1, *w1.shape), theta[:, cut:].reshape(-1, *w2.shape)


def mode(start, target, balance, times):
    """s(t) of ds/dt = sqrt(balance^2 + 4 s^2)(target - s)."""
    out = solve_ivp(
        lambda _, s: np.sqrt(balance**2 + 4 * s**2) * (target - s), (0.0, float(times[-1])), [start], t_eval=times,
        method="DOP853", rtol=1e-11, atol=1e-14,
    )  # fmt: skip
    return out.y[0]


def loss(product, x, y):
    """Mean over samples of |y - product x|^2 / 2."""
    return np.mean([0.5 * np.sum((yi - product @ xi) ** 2) for xi, yi in zip(x, y, strict=True)])
