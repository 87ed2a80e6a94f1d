"""Diagonal linear networks f = (u^D - v^D) . x under gradient flow: the solution, and what it demands, in closed form.

On the squared loss both weights follow one path S = X' nu of the inputs' span (Woodworth et al. 2020):

    D = 2:  u = u0 exp(2 S),                          v = v0 exp(-2 S)
    D > 2:  u = (u0^(2-D) - D (D-2) S)^(1/(2-D)),     v = (v0^(2-D) + D (D-2) S)^(1/(2-D))

A solution is the one nu with X (u^D - v^D) = y; it minimises the implicit regulariser, whose gradient is S, among all
that fit. For u0 = v0 = alpha and D = 2 this is alpha^2 sum q(beta_i / alpha^2).
"""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, linprog

from geomfeat.location.kernel_demand import CHANGED

Array = np.ndarray
Weights = tuple[Array, Array]
NEWTON_STEPS, EXACT = 100, 1e-10
SUFFICIENT = 1e-4  # share of the predicted fall of the potential that a step must reach


def product(weights: Weights, depth: int) -> Array:
    """(d,) beta = u^D - v^D."""
    return weights[0] ** depth - weights[1] ** depth


def flow(x: Array, y: Array, start: Weights, depth: int, share_left: float = 1e-10) -> Weights:
    """u and v after gradient flow of |y - X beta|^2 / 2, integrated until this share of |y - X beta_0|^2 is left.

    RuntimeError where the integrator has not got there.
    """
    d = x.shape[1]
    both = np.hstack([x, -x])  # X beta = [X, -X] (u^D, v^D)
    inner, back = both.T @ both, np.ascontiguousarray(both.T)
    first = float(np.square(y - x @ product(start, depth)).sum())

    def loads(z: Array) -> tuple[Array, Array]:
        """D (u, v)^(D - 1), and [X, -X]' residual."""
        power = z ** (depth - 1)
        return depth * power, back @ (y - both @ (power * z))

    def velocity(_: float, z: Array) -> Array:
        slope, pulled = loads(z)
        return slope * pulled

    def curvature(_: float, z: Array) -> Array:
        slope, pulled = loads(z)
        return np.diag(depth * (depth - 1) * z ** (depth - 2) * pulled) - np.outer(slope, slope) * inner

    def arrived(_: float, z: Array) -> float:
        off = y - both @ z**depth
        return float(off @ off) - share_left * first

    arrived.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    found = solve_ivp(velocity, (0, 1e12), np.concatenate(start), "LSODA", events=arrived, jac=curvature, rtol=1e-9,
                      atol=1e-13)  # fmt: skip
    if found.status != 1:
        raise RuntimeError(f"gradient flow of depth {depth} did not arrive: {found.message}")
    return found.y[:d, -1], found.y[d:, -1]


def on_path(path: Array, start: Weights, depth: int) -> Weights | None:
    """u and v at S = `path` (d,), or None beyond the end of the path."""
    if depth == 2:
        return start[0] * np.exp(2 * path), start[1] * np.exp(-2 * path)
    power, pace = 2 - depth, depth * (2 - depth)
    u, v = start[0] ** power + pace * path, start[1] ** power - pace * path
    return (u ** (1 / power), v ** (1 / power)) if min(u.min(), v.min()) > 0 else None


def predicted(x: Array, y: Array, start: Weights, depth: int) -> Weights:
    """u and v that gradient flow reaches, without a flow: Newton's method on nu.

    X (u^D - v^D) - y is the gradient of a convex potential in nu, sum (u^2 + v^2) / (2 D) - nu . y.
    """
    nu = np.zeros(len(x))
    weights = start

    def potential(nu: Array, weights: Weights | None) -> float:
        if weights is None:
            return np.inf
        with np.errstate(over="ignore"):
            return float((weights[0] ** 2 + weights[1] ** 2).sum() / (2 * depth) - nu @ y)

    for _ in range(NEWTON_STEPS):
        off = x @ product(weights, depth) - y
        if np.linalg.norm(off) <= EXACT * np.linalg.norm(y):
            return weights
        step = -np.linalg.solve(kernel(x, weights, depth), off)
        now, length = potential(nu, weights), 1.0
        while potential(nu + length * step, ahead := _ahead(x, nu + length * step, start, depth)) > (
            now + SUFFICIENT * length * float(off @ step) + EXACT * abs(now)
        ):
            length /= 2
        assert ahead is not None
        nu, weights = nu + length * step, ahead
    raise RuntimeError(f"the solution of depth {depth} was not found in {NEWTON_STEPS} steps")


def _ahead(x: Array, nu: Array, start: Weights, depth: int) -> Weights | None:
    with np.errstate(over="ignore"):
        return on_path(x.T @ nu, start, depth)


def kernel(x: Array, weights: Weights, depth: int) -> Array:
    """(n, n) tangent kernel D^2 X diag(u^(2D-2) + v^(2D-2)) X'."""
    power = 2 * depth - 2
    return depth**2 * (x * (weights[0] ** power + weights[1] ** power)) @ x.T


def regulariser(beta: Array, alpha: Array | float) -> float:
    """Woodworth's Q for D = 2: sum alpha^2 q(beta / alpha^2), q(z) = 2 - sqrt(4 + z^2) + z arcsinh(z / 2).

    >>> round(regulariser(np.array([2.0]), 1.0), 4)   # between z^2 / 4 and |z| (log |z| - 1)
    0.9343
    """
    square = np.square(alpha)
    z = beta / square
    return float((square * (2 - np.sqrt(4 + z * z) + z * np.arcsinh(z / 2))).sum())


def least_l1(x: Array, y: Array) -> Array:
    """(d,) the solution of X beta = y of the smallest L1 norm."""
    d = x.shape[1]
    found = linprog(np.ones(2 * d), A_eq=np.hstack([x, -x]), b_eq=y, bounds=(0, None)).x
    return found[:d] - found[d:]


def demands(x: Array, start: Weights, coefficients: Array, depth: int) -> tuple[float, float]:
    """(R, kappa) of a linear response with these coefficients (n,), hidden layers being u^k x and v^k x for k < D."""
    pulled, size = x.T @ coefficients, np.square(x).sum(0)
    u, v = start
    du, dv = depth * u ** (depth - 1) * pulled, -depth * v ** (depth - 1) * pulled
    layers = [
        0.5 * np.log10(
            float(size @ (k**2 * (np.square(u ** (k - 1) * du) + np.square(v ** (k - 1) * dv))))
            / float(size @ (u ** (2 * k) + v ** (2 * k)))
        ) for k in range(1, depth)
    ]  # fmt: skip
    before = kernel(x, start, depth)

    def beyond(log_s: float) -> float:
        s = 10**log_s
        moved = np.linalg.norm(kernel(x, (u + s * du, v + s * dv), depth) - before) / np.linalg.norm(before)
        return float(np.log10(moved / CHANGED))

    scale = -float(np.log10(np.abs(np.concatenate([du / u, dv / v])).max()))
    return float(np.mean(layers)), -float(brentq(beyond, scale - 3, scale + 3, xtol=1e-12))  # pyright: ignore
