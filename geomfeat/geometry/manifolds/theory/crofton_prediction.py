"""What random projections will show, predicted from the faces of the capacity problem: the conic Crofton formula.

Points x_j span R^r; y are signs, C = {sum l_j y_j x_j : l >= 0} a cone, K = {w : y_j x_j . w >= 0 for all j} its dual.
A Gaussian projection to n dimensions takes x to G'x, with G (r, n). A read-out u of it is the read-out Gu of the points
themselves, and L = range(G) is a uniformly random subspace of dimension n:

    separable after projection  <=>  L meets the interior of K                                                 (1)
                                <=>  C is pointed and the kernel of the projection meets C at 0 alone          (2)

If y is not separable (C contains a line; Gordan 1873), the interior of K is empty and no projection ever separates it.
Otherwise C is pointed and no subspace, K neither, and L touches K without entering it with probability 0. The conic
Crofton formula for K, whose intrinsic volumes are those of C in reverse, v_j(K) = v_{r-j}(C) (Amelunxen, Lotz, McCoy &
Tropp 2014, sections 5.2 and 5.3, eq. 5.10), gives

    F(n) = P(separable at n) = P(L and K share a ray) = 2 sum_{i = 1, 3, 5, ...} v_{n-i}(C)                    (3)
    v_k(C) = P(the projection of t ~ N(0, I) on C lies in a face of dimension k)                               (4)

so the `faces` of the cone projections behind the capacity hold the whole curve; draws with t inside its cone (k = r)
need no special treatment. Over random y, F is the mean, where dichotomies that are not separable add 0, whatever their
k. Adding (3) for n and n + 1,

    (F(n) + F(n + 1)) / 2 = P(k <= n, y separable)                                                             (5)

so the curve through the integers passes through (n + 1/2, P(k <= n)), which needs no parity and has a third of the
variance of (3) there. At an integer,

    F(n) = (P(k < n) + P(k <= n)) / 2 + d(n),    d(n) = E[sign(n - k) (-1)^(n - 1 - k)] / 2                    (6)

(over separable y: (3) minus half of the parity's sign, whose mean is 0 by the Gauss-Bonnet formula). The curvature d is
small and its estimate, with standard error 1 / (2 sqrt(draws)), is shrunk to 0 where it does not stand out (James &
Stein 1961, positive part); without it, P / median of k is what is left. It matters where the curve is steep: 1 % of the
capacity where 3 dimensions separate one of ten correlated points from the others (3.384, exact 3.420).

Judged by benchmarks/simulated.py: 47 cells (points in general position, correlated and crowded, segments, simplices,
spheres, Gaussian clouds, classes of four data sets raw and in random ReLU features; P from 1 to 40, three kinds of
dichotomies; three cells with a bias, predicted from the slice below), 600 to 8000 trials and as many draws of their
own, all of it twice with independent draws. The error of the difference is .5 to 2.9 % of the capacity. Chi-square of
the capacities: 41.8 and 57.1 for 47 cells (p = .34 together), mean z -.14 and +.13, largest |z| 2.49 (a cell that reads
.31 the other time); of the shares by (3) at one dimension each: 41.7 and 57.5 (p = .34). No cell departs from the
formula, which is a theorem: one projection per draw takes the place of the simulation.

With a bias, L is range(G) plus the axis of the constant, which is no uniform subspace: (3) then holds for the slice
{sum l_j y_j x_j : l >= 0, sum l_j y_j = 0}, the cone of the differences between the two sides, and its faces; the faces
of C itself do not give it.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING


def predicted_separability(
    faces: Int[Tensor, "draws"], dimensions: Int[Tensor, "m"], separable: Bool[Tensor, "draws"] | None = None
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
    """Share of dichotomies that are separable after a Gaussian projection to each of `dimensions`, and its error.

    Args:
        faces: k of every draw (`Capacity.faces` or `ConeProjections.faces`, certified draws).
        separable: whether the draw's dichotomy is separable at all; None: all are.

    Returns:
        Unbiased estimates by (3), with standard errors over the draws. Sampling noise may carry them beyond 0 and 1.

    >>> k = torch.tensor([0, 1, 1, 2])                                    # two independent points
    >>> predicted_separability(k, torch.tensor([1, 2]))[0].tolist()
    [0.5, 1.0]
    """
    k, kept = _checked(faces, separable)
    below = (k[:, None] < dimensions) & ((dimensions - k[:, None]) % 2 == 1) & kept[:, None]
    terms = 2.0 * below.to(WORKING)
    return terms.mean(0), terms.std(0) / math.sqrt(len(k))


def predicted_capacity(
    faces: Int[Tensor, "draws"],
    n_manifolds: int,
    separable: Bool[Tensor, "draws"] | None = None,
    rank: int | None = None,
) -> tuple[float, float]:
    """P / n for the dimension n at which half of the dichotomies are separable, by (5) and (6), and its error.

    Args:
        faces, separable: as in `predicted_separability`.
        n_manifolds: P.
        rank: dimension of the points' span, where all that can be separated is; None: not known.

    Returns:
        (NaN, NaN) if fewer than half of the dichotomies are separable at all.

    >>> predicted_capacity(torch.tensor([0, 1, 1, 2]), 2)[0]
    2.0
    """
    k, kept = _checked(faces, separable)
    top = int(k.max()) + 1 if rank is None else max(int(rank), 1)
    n = torch.arange(top + 1, device=k.device)
    below = ((k[:, None] < n) & kept[:, None]).to(WORKING).mean(0)
    up_to = ((k[:, None] <= n) & kept[:, None]).to(WORKING).mean(0)
    parity = 1 - 2 * ((n - 1 - k[:, None]) % 2)
    curvature = 0.5 * (torch.sign(n - k[:, None]) * parity * kept[:, None]).to(WORKING).mean(0)
    # A mean of draws of +-1/2 has variance 1/4 per draw at most: what noise may add to the square is left out.
    weight = (1 - 0.25 / len(k) / curvature.square()).clamp_min(0.0)
    share = torch.minimum(torch.maximum((below + up_to) / 2 + weight * curvature, below), up_to)
    share[0] = 0.0
    if rank is not None:
        share[top] = up_to[top] = kept.to(WORKING).mean()
    at = torch.stack([n.to(WORKING), n + 0.5], 1).flatten().tolist()
    curve = torch.stack([share, up_to], 1).flatten().tolist()
    half = crossing(at, curve, 0.5)
    # Draws vary by 1/4 about the share at half-integers; at integers the curvature adds as much, as far as it is used.
    used = float(weight[round(half)]) * (1 - 2 * abs(half - round(half))) if half < top + 0.5 else 0.0
    return capacity_at_half(at, curve, n_manifolds, 0.5 * math.sqrt((1 + used**2) / len(k)))


def capacity_at_half(at: list[float], share: list[float], n_manifolds: int, spread: float) -> tuple[float, float]:
    """P / n where a curve of shares crosses 1/2, and its error, given the standard error `spread` of the share there.

    The error needs no slope and no distribution (Woodruff 1952): the curve is read at two standard errors of the share
    (but .4 at most) on either side of 1/2, and the distance between the answers is scaled to one. At one, the readings
    often fall in the same step of the curve, whose height is known from few draws only.
    NaN if the curve ends below 1/2; if only the upper reading fails, that side counts as capacity 0.
    """
    width = min(2 * spread, 0.4)
    n, fewer, more = (crossing(at, share, level) for level in (0.5, 0.5 - width, 0.5 + width))
    if not math.isfinite(n) or n <= 0:
        return math.nan, math.nan
    high = n_manifolds / fewer if fewer > 0 else math.inf
    return n_manifolds / n, (high - n_manifolds / more) / 2 * spread / width


def crossing(at: list[float], share: list[float], level: float) -> float:
    """Where the piecewise linear curve through (at, share), not decreasing, reaches a level; inf if it never does.

    >>> crossing([0.0, 1.0, 2.0], [0.0, 0.25, 1.0], 0.5)
    1.3333333333333333
    """
    for i in range(1, len(at)):
        if share[i] >= level:
            return at[i - 1] + (at[i] - at[i - 1]) * max(0.0, level - share[i - 1]) / (share[i] - share[i - 1])
    return math.inf


def _checked(faces: Tensor, separable: Tensor | None) -> tuple[Tensor, Tensor]:
    if len(faces) < 2:
        raise BadInput(f"faces of {len(faces)} draws: give the faces of at least 2 (200 are usual)")
    if separable is not None and separable.shape != faces.shape:
        raise BadInput(f"separable has shape {tuple(separable.shape)}, faces {tuple(faces.shape)}: give one per draw")
    return faces, torch.ones_like(faces, dtype=torch.bool) if separable is None else separable
