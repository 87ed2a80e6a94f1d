"""Gradient flow of a linearised network: how far parameters go to change the outputs by a given amount.

With tangent features J of the outputs on the probes and K = J J' = U diag(w) U', gradient flow of the linear model
towards a change b of the outputs leaves, at time t, the residual exp(-K t) b, and has moved the parameters by

    Dtheta = J' a,   a = U diag((1 - exp(-w t)) / w) U' b,   |exp(-K t) b|^2 = share_left |b|^2.

The two ways to get `a` agree: an eigendecomposition of K (small problems, `respond`), and Lanczos from products
K v alone (`respond_by_products`; Saad 1992, "Analysis of some Krylov subspace approximations to the matrix exponential
operator": f(K) b = |b| V f(T) e1), which never holds K. Both answer for several shares at once: the eigenvectors, or
the Lanczos vectors, are the same for all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.memory import with_more_rows
from geomfeat.numerics import WORKING, safe_eigh

# Eigenvalues below this share of the largest are null: the linear model cannot learn along them in any finite time.
NULL = 1e-12
# Lanczos checks its convergence every so many steps: more often than this costs more than the steps it saves.
CHECK_EVERY = 5
FIRST_ROWS = 32  # vectors that Lanczos has room for at first


@dataclass(frozen=True, eq=False)
class Response:
    """The linear response to one change of the outputs.

    Attributes:
        coefficients: (m,) a; the parameters move by J' a.
        time: t of the flow, in units of 1 / eigenvalue.
        left: share of |b|^2 that is left at that time, counting what the linear model cannot reach.
        unreachable: share of |b|^2 in the null space of K.
        steps: Lanczos steps, 0 for the eigendecomposition.
        residual: relative change of |Dtheta| in the last Lanczos steps (0 for the eigendecomposition).
    """

    coefficients: Float[Tensor, " m"]
    time: float
    left: float
    unreachable: float
    steps: int = 0
    residual: float = 0.0


def respond(
    kernel: Float[Tensor, "m m"], change: Float[Tensor, " m"], shares: Sequence[float] = (0.01,)
) -> tuple[Response, ...]:
    """Responses by eigendecomposition, one for each share.

    Args:
        kernel: (m, m) K, positive semi-definite.
        change: (m,) b, the change of the outputs to be learned; zero gives a zero response.
        shares: of the REACHABLE part of |b|^2, at which the flow stops, each in (0, 1).

    >>> (r,) = respond(torch.eye(2, dtype=torch.float64), torch.tensor([3.0, 4.0], dtype=torch.float64), [0.01])
    >>> [round(float(v), 6) for v in r.coefficients]   # (1 - sqrt(.01)) b
    [2.7, 3.6]
    """
    valid_request(change, shares)
    values, vectors = safe_eigh(kernel)
    loads = vectors.mT @ change.to(WORKING)
    flows = [_flow(values, loads, share) for share in shares]
    return tuple(Response(vectors @ filtered, time, left, unreachable) for filtered, time, left, unreachable in flows)


def respond_by_products(
    product: Callable[[Tensor], Tensor],
    change: Float[Tensor, " m"],
    shares: Sequence[float] = (0.01,),
    *,
    max_steps: int = 400,
    rtol: float = 1e-4,
) -> tuple[Response, ...]:
    """Responses from products v -> K v, by Lanczos with full reorthogonalisation, one for each share.

    Stops when |Dtheta| = sqrt(a' K a) changed by less than `rtol` over the last 5 steps for every share, or the Krylov
    space is exhausted (then the answer is exact). Memory: `max_steps` vectors of `change`'s size.
    """
    valid_request(change, shares)
    b = change.to(WORKING)
    size = float(b.norm())
    if size == 0.0:
        return (Response(torch.zeros_like(b), 0.0, 0.0, 0.0),) * len(shares)
    most = min(max_steps, b.numel())
    basis = torch.zeros(min(most, FIRST_ROWS), b.numel(), dtype=WORKING, device=b.device)
    basis[0] = b / size
    diagonal: list[float] = []
    off: list[float] = []
    before = [math.nan] * len(shares)
    for step in range(1, most + 1):
        known = basis[:step]
        w = product(known[-1]).to(WORKING)
        diagonal.append(float(w @ known[-1]))
        # Rounding destroys the orthogonality of Lanczos vectors; orthogonalising twice against all of them restores it.
        for _ in range(2):
            w = w - known.mT @ (known @ w)
        off.append(float(w.norm()))
        # A new vector of rounding size means that the vectors span an invariant subspace: the answer is exact.
        closed = off[-1] <= 1e-12 * max(abs(v) for v in diagonal) or step == b.numel()
        if closed or step == most or step % CHECK_EVERY == 0:
            values, vectors = _tridiagonal(diagonal, off[:-1])
            flows = [_flow(values, size * vectors[0], share) for share in shares]
            norms = [math.sqrt(float((values.clamp_min(0) * filtered.square()).sum())) for filtered, *_ in flows]
            drifts = [_drift(new, old) for new, old in zip(norms, before, strict=True)]
            drifts = [0.0] * len(shares) if closed else drifts
            before = norms
            if closed or step == most or max(drifts) < rtol:
                return tuple(
                    Response(known.mT @ (vectors @ filtered).to(b.device), time, left, unreachable, step, drift)
                    for (filtered, time, left, unreachable), drift in zip(flows, drifts, strict=True)
                )
        if step == len(basis):
            basis = with_more_rows(basis, most, "use fewer samples or outputs, or lower max_steps=")
        basis[step] = w / off[-1]
    raise AssertionError("the last step always returns")


def valid_request(change: Tensor, shares: Sequence[float]) -> None:
    """BadInput for a share outside (0, 1), or a change that is not finite."""
    for share in shares:
        if not 0 < share < 1:
            raise BadInput(f"share_left must lie strictly between 0 and 1, got {share}")
    if not torch.isfinite(change).all():
        raise BadInput("the change of the outputs holds NaN or infinite values: one of the two models is damaged")


def _drift(new: float, old: float) -> float:
    """Relative change of a norm; 1 where it is not known (NaN) or was 0."""
    return abs(new - old) / new if new > 0 and old > 0 else 1.0


def _tridiagonal(diagonal: list[float], off: list[float]) -> tuple[Tensor, Tensor]:
    t = torch.diag(torch.tensor(diagonal, dtype=WORKING))
    if off:
        side = torch.tensor(off, dtype=WORKING)
        t = t + torch.diag(side, 1) + torch.diag(side, -1)
    return safe_eigh(t)


def _flow(values: Tensor, loads: Tensor, share_left: float) -> tuple[Tensor, float, float, float]:
    """((1 - exp(-w t)) / w) loads at the time t leaving `share_left` of the reachable load; t; left; unreachable."""
    power = loads.square()
    total = float(power.sum())
    if total == 0.0:
        return torch.zeros_like(loads), 0.0, 0.0, 0.0
    largest = float(values.max().clamp_min(torch.finfo(WORKING).tiny))
    reached = float(power[values > NULL * largest].sum())
    if reached == 0.0:
        return torch.zeros_like(loads), 0.0, 1.0, 1.0
    t = stop_time(values, power, share_left)
    unreachable = 1.0 - reached / total
    left = share_left * (1 - unreachable) + unreachable
    return gain(values, t, largest) * loads, t, left, max(unreachable, 0.0)


def stop_time(values: Tensor, powers: Tensor, share_left: float) -> float:
    """t with sum(powers exp(-2 values t)) = share_left sum(powers), over the values that are not null."""
    reachable = values > NULL * values.max()
    w, p = (part[reachable].cpu().numpy() for part in (values, powers))
    goal = share_left * p.sum()

    def excess(log_t: float) -> float:
        return float(p @ np.exp(-2 * w * math.exp(log_t)) - goal)

    # The residual falls monotonically in t; the root is sought in log t, since rates span many decades.
    low, high = math.log(1e-12 / w.max()), math.log(1e3 / w.min())
    if excess(low) <= 0:  # all but a rounding error of it is left
        return math.exp(low)
    log_t: Any = brentq(excess, low, high, xtol=1e-14)
    return math.exp(log_t)


def gain(values: Tensor, time: float, largest: float) -> Tensor:
    """(1 - exp(-w t)) / w of eigenvalues w, 0 for null ones; the largest eigenvalue says which these are."""
    reachable = values > NULL * largest
    w = torch.where(reachable, values, 1.0)
    # 1 - exp(-w t) would lose the digits of slow modes.
    return torch.where(reachable, -torch.expm1(-w * time) / w, 0.0)
