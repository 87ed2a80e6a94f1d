"""How the outputs change when the linearised network is trained by gradient flow on a loss.

With K = J J' the tangent kernel of the outputs on n samples and L the loss of the outputs f,

    df/dt = -K dL/df,     Dtheta(t) = J' a(t),     a(t) = -integral of dL/df,     f(t) = f(0) + K a(t).

For the mean square L = |f - y|^2 / n the modes of K = U diag(w) U' part: of y - f(0) = r the flow leaves exp(-s w)
along every one, with s = 2 t / n, so that a = U diag((1 - exp(-w s)) / w) U' r. Cross-entropy takes explicit steps of
3.5 n / w_max, of the 4 n / w_max at which they would become unstable (its Hessian in the outputs is at most 1 / (2 n)),
and after some hundreds of them implicit ones. For other losses see `own_loss_flow`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.forecasting.output_loss import OutputLoss
from geomfeat.forecasting.own_loss_flow import crossing, flow_on
from geomfeat.numerics import WORKING, safe_eigh
from geomfeat.regimes.linearization.response import NULL, gain, stop_time
from geomfeat.regimes.stability.hessian_spectrum import top_eigenvalues

# Of 2 over the largest curvature, at which explicit steps become unstable. A step of the mean square that is not beyond
# 1 / curvature never overshoots, as the flow does not.
STEP = {"cross-entropy": 1.75, "mse": 1.0}
MOST_PRODUCTS = 600  # steps where each takes derivatives
# With a formed kernel, explicit steps until the fast modes are learned; then implicit ones, each longer by a factor,
# for slow modes, which would take as many more explicit steps as they are slower.
EXPLICIT, IMPLICIT, GROWTH = 600, 60, 1.25
LAST_SHARE = 1e-3  # of what can be learned, left where the target is out of reach


@dataclass(frozen=True, eq=False)
class LinearTraining:
    """The training of the linearised network.

    Attributes:
        change: (n, C) of the outputs. coefficients: (n, C) a; the parameters move by J' a.
        time: t of the flow. loss: relative to that of outputs 0, at its end. reached: whether that is the target.
        unreachable: share of what is to be learned in the null space of the kernel; NaN where it is not known.
        by_steps: whether it followed the optimizer's own steps rather than the flow.
    """

    change: Tensor
    coefficients: Tensor
    time: float
    loss: float
    reached: bool
    unreachable: float = math.nan
    by_steps: bool = False


Product = Callable[[Tensor], Tensor]


def train_linearly(
    kernel: Float[Tensor, "m m"] | Product,
    start: Float[Tensor, "n c"],
    loss: OutputLoss,
    *,
    target: float | None,
    longest: float = math.inf,
) -> LinearTraining:
    """Gradient flow from outputs `start` until the relative loss is `target`, or for the time `longest`.

    Args:
        kernel: (n C, n C), rows sample by sample, or the product v -> K v of (n, C) arrays.
        target: below the relative loss of the start; None for none.

    >>> from geomfeat.forecasting.output_loss import output_loss
    >>> loss = output_loss("mse", torch.tensor([3.0, 4.0]), 1)
    >>> eye, zero = torch.eye(2, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
    >>> found = train_linearly(eye, zero, loss, target=0.01)  # a tenth of the targets is left
    >>> found.change.flatten().tolist(), round(found.loss, 9)
    ([2.7, 3.6], 0.01)
    """
    start = start.to(WORKING)
    if isinstance(kernel, Tensor) and loss.kind == "mse":
        return _by_modes(kernel, start, loss, target, longest)
    if loss.kind not in STEP:
        gram = kernel.to(WORKING) if isinstance(kernel, Tensor) else None
        product = product_of(kernel)
        largest = largest_eigenvalue(product, start)
        return LinearTraining(*flow_on(product, gram, largest, start, loss, target=target, longest=longest))
    return _by_steps(kernel, start, loss, target, longest)


def largest_eigenvalue(product: Product, like: Tensor, rtol: float = 1e-4) -> float:
    """Of a positive semi-definite matrix that multiplies arrays (n, C) of this shape."""
    shape = like.shape
    return top_eigenvalues(
        lambda v: product(v.view(shape)).to(WORKING).flatten(), like.numel(), rtol=rtol, device=like.device
    ).top


def product_of(kernel: Tensor | Product) -> Product:
    """The product v -> K v of (n, C) arrays."""
    if not isinstance(kernel, Tensor):
        return kernel
    gram = kernel.to(WORKING)
    return lambda v: (gram @ v.flatten()).view_as(v)


def _by_modes(kernel: Tensor, start: Tensor, loss: OutputLoss, target: float | None, longest: float) -> LinearTraining:
    wanted = loss.targets - start
    values, vectors = safe_eigh(kernel)
    loads = vectors.mT @ wanted.flatten()
    powers, largest = loads.square(), float(values.max())
    total, reachable = float(powers.sum()), values > NULL * largest
    reached_by_kernel = float(powers[reachable].sum())
    unreachable = 1 - reached_by_kernel / total
    s, reached = math.inf, False
    if target is not None and reached_by_kernel > 0:
        share = (target * loss.unit * loss.n / total - unreachable) / (1 - unreachable)
        reached = share > 0
        # Modes that the kernel cannot reach may hold more than the target: then the flow ends where it can.
        s = stop_time(values, powers, share if reached else LAST_SHARE)
    limit = 2 * longest / loss.n
    reached, s = reached and s <= limit, min(s, limit)
    a = (vectors @ (gain(values, s, largest) * loads)).view_as(start)
    change = (kernel.to(WORKING) @ a.flatten()).view_as(start)
    return LinearTraining(change, a, s * loss.n / 2, loss.relative(start + change), reached, max(unreachable, 0.0))


def _by_steps(
    kernel: Tensor | Product, start: Tensor, loss: OutputLoss, target: float | None, longest: float
) -> LinearTraining:
    gram, product = kernel.to(WORKING) if isinstance(kernel, Tensor) else None, product_of(kernel)
    explicit, most = (MOST_PRODUCTS, MOST_PRODUCTS) if gram is None else (EXPLICIT, EXPLICIT + IMPLICIT)
    step = STEP[loss.kind] / (largest_eigenvalue(product, start) * loss.steepest_at(start))
    a, change, time = torch.zeros_like(start), torch.zeros_like(start), 0.0
    now = loss.relative(start)
    for number in range(most):
        f, down = start + change, -loss.slope(start + change)
        implicit = gram is not None and number >= explicit
        step = step * GROWTH if implicit else step
        h = min(step, longest - time)
        if implicit:
            assert gram is not None
            # a(t + h) = a + h d, with d the slope at the end, linearised: (1 + h H K) d = -dL/df.
            bent = loss.curved(f, gram.view(*f.shape, -1)).flatten(0, 1)
            eye = torch.eye(len(bent), dtype=WORKING, device=bent.device)
            down = torch.linalg.solve(eye + h * bent, down.flatten()).view_as(f)
        moved = product(down).to(WORKING)
        following = loss.relative(f + h * moved)
        ends = target is not None and following <= target
        if ends:
            assert target is not None
            h = crossing(lambda at, f=f, d=moved: loss.relative(f + at * d), h, target)
            following = target
        a, change, time, now = a + h * down, change + h * moved, time + h, following
        if ends or time >= longest:
            return LinearTraining(change, a, time, now, ends)
    return LinearTraining(change, a, time, now, reached=False)
