"""Mixed dynamics of a two-layer linear network: lazy along weak modes, rich along strong ones, in one formula.

A = W2 W1 has all weights drawn from N(0, sigma^2) and width w; the loss is |A - Y|^2 / 2. Gradient flow moves A by

    dA/dt = -(M2 G + G M1),   G = A - Y,   M1 = W1' W1,   M2 = W2 W2'.

At a large width the weights start nearly balanced up to a multiple of the identity, and stay so:

    M1^2 = A' A + c^2 I,   M2^2 = A A' + c^2 I,   c = sigma^2 w,

which closes the flow in A alone. Where a singular value s of A is far below c both factors are c (the lazy, linear
flow); where it is far above they are s (the balanced, rich flow). Tu, Aranguri and Jacot 2024, equation 1.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, inf

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, require_finite

# A step of the flow is this share of its fastest time scale: the error of a fourth-order step is then below 1e-5.
STEP = 0.25


def activity_threshold(sigma: float, width: int) -> float:
    """The singular value sigma^2 w at which a mode turns from lazy to rich (Tu et al. 2024, section 2).

    Args:
        sigma: standard deviation of every initial weight, above 0.
        width: number of hidden units, at least 1.

    >>> activity_threshold(0.5, 400)
    100.0
    """
    if not 0 < sigma < inf:
        raise BadInput(f"sigma={sigma!r} must be positive: it is the standard deviation of the initial weights")
    if not 1 <= width < inf:
        raise BadInput(f"width={width!r} must be at least 1 hidden unit")
    return sigma**2 * width


def n_active(matrix: Float[Tensor, "*b o i"], threshold: float | Tensor) -> Tensor:
    """Number of rich modes of A: singular values above the threshold sigma^2 w (Tu et al. 2024, section 2).

    Args:
        matrix: (..., outputs, inputs) the product W2 W1, or the target for what a fully trained network will have.
        threshold: sigma^2 w, or (...,) one for each matrix.

    Returns:
        (...,) whole numbers from 0 to min(outputs, inputs). Raises BadInput for NaN, or a threshold below 0.

    >>> int(n_active(torch.diag(torch.tensor([8.0, 3.0, 0.1])), 1.0))
    2
    """
    matrix = require_finite(as_tensor(matrix, "matrix", WORKING), "matrix")
    level = as_tensor(threshold, "threshold", WORKING).to(matrix.device)
    if matrix.ndim < 2 or not bool((level >= 0).all()):
        raise BadInput(
            f"matrix has shape {tuple(matrix.shape)} and must be (..., outputs, inputs), threshold at least 0"
        )
    return (torch.linalg.svdvals(matrix) > level[..., None]).sum(-1)


def mixed_velocity(
    product: Float[Tensor, "*b o i"], target: Float[Tensor, "*b o i"], threshold: float | Tensor
) -> Tensor:
    """dA/dt of the self-consistent flow: -[(A A' + c^2 I)^(1/2) G + G (A' A + c^2 I)^(1/2)], G = A - Y, for any shape.

    Args:
        product: (..., outputs, inputs) A.
        target: (..., outputs, inputs) Y; for inputs that are not white, see `mixed_flow`.
        threshold: c = sigma^2 w, or (...,) one for each matrix; 0 gives the balanced flow.

    >>> a, y = torch.tensor([[3.0]]), torch.tensor([[4.0]])
    >>> float(mixed_velocity(a, y, 4.0))   # 2 sqrt(s^2 + c^2) (y - s)
    10.0
    """
    a, gap = product.to(WORKING), (product - target).to(WORKING)
    u, s, vh = torch.linalg.svd(a, full_matrices=False)
    c = torch.as_tensor(threshold, dtype=WORKING, device=a.device)[..., None, None]
    # Outside the row and column space of A both roots are c: only the rest needs the singular vectors.
    extra = torch.sqrt(s[..., None, :].square() + c.square()) - c
    left = (u * extra) @ (u.mT @ gap)
    right = ((gap @ vh.mT) * extra) @ vh
    return -(left + right + 2 * c * gap)


def mixed_flow(
    start: Float[Tensor, "*b o i"], target: Float[Tensor, "*c p j"], threshold: float | Tensor, times: Sequence[float]
) -> Float[Tensor, "t *b o i"]:
    """A(t) of the self-consistent flow, at given times.

    Holds for white inputs, weights of one variance in both layers, and large widths. The largest relative error over
    the run is .4 to .9 sqrt(d / w) for d x d maps, early on, and 1-3 % from half-way on for w of 10 d^2 or more: the
    error of taking M1 and M2 for multiples of the identity at the start.

    Args:
        start: (..., outputs, inputs) A(0) = W2 W1, of the network itself: the first moves depend on it. Leading
            dimensions are networks side by side.
        target: (..., outputs, inputs) Y, of the start's shape.
        threshold: c = sigma^2 w, see `activity_threshold`, or (...,) one for each network; 0 is the balanced flow.
        times: increasing, from 0; in units where the weights move by the gradient of |A - Y|^2 / 2 (learning rate
            times steps).

    Returns:
        (times, ..., outputs, inputs) in float64. Raises BadInput for shapes that differ, NaN, times that do not
        increase, a negative threshold.

    >>> y = torch.diag(torch.tensor([5.0, 1.0]))
    >>> end = mixed_flow(0.01 * torch.eye(2), y, 2.0, [10.0])[-1]
    >>> bool((end - y).norm() < 1e-6)
    True
    """
    a, y = (require_finite(as_tensor(m, n, WORKING), n) for m, n in ((start, "start"), (target, "target")))
    c = as_tensor(threshold, "threshold", WORKING).to(a.device)
    _check(a, y, c, times)
    out, now = [], 0.0
    size = torch.maximum(*(torch.linalg.matrix_norm(m, 2) for m in (a, y)))
    # The residual decays at a rate of at most 2 sqrt(s^2 + c^2), and s grows no further than the target's.
    longest = STEP / max(2 * float(torch.hypot(size, c).max()), torch.finfo(WORKING).tiny)
    for time in map(float, times):
        steps = ceil((time - now) / longest)
        for _ in range(steps):
            a = _fourth_order(a, y, c, (time - now) / steps)
        now = time
        out.append(a)
    return torch.stack(out)


def _fourth_order(a: Tensor, y: Tensor, threshold: Tensor, h: float) -> Tensor:
    """One classical Runge-Kutta step."""
    k1 = mixed_velocity(a, y, threshold)
    k2 = mixed_velocity(a + h / 2 * k1, y, threshold)
    k3 = mixed_velocity(a + h / 2 * k2, y, threshold)
    k4 = mixed_velocity(a + h * k3, y, threshold)
    return a + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _check(start: Tensor, target: Tensor, threshold: Tensor, times: Sequence[float]) -> None:
    if start.shape != target.shape or start.ndim < 2:
        raise BadInput(
            f"start has shape {tuple(start.shape)} and target {tuple(target.shape)}: give two matrices of one shape"
        )
    if not bool(((threshold >= 0) & (threshold < inf)).all()) or threshold.shape not in ((), start.shape[:-2]):
        raise BadInput(
            f"threshold={threshold.tolist()} must be sigma^2 w of the network, 0 or more, or one for each of the "
            f"{tuple(start.shape[:-2])} networks"
        )
    if not len(times) or not times[0] >= 0 or any(not a < b for a, b in pairwise((*times, inf))):
        raise BadInput(f"times={list(times)[:5]} must be one or more finite, increasing numbers, from 0")
