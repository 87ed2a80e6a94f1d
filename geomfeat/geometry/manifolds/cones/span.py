"""The span of a cloud of points, as far as the precision of its data separates it from rounding.

A cone does not care how long its points are: directions in which points differ by rounding alone would count like all
others. A matrix of unit points whose rows carry rounding of relative size eta, spread over N coordinates at random, has
singular values of up to about eta (1 + sqrt(k / N)) from rounding. What lies below a few times that is no direction of
the points.
"""

from dataclasses import dataclass
from typing import Any

import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.numerics import WORKING, eigenvalues, matmul, own_products, stream

# Stored numbers err by .3 of a rounding (root mean square), sums of products in the same precision by about one.
ROUNDINGS = 2.0
# A Gram matrix shows singular values down to this share of the largest possible one; smaller ones need the points.
SHOWN = 1e-6
# Eigenvalues of a Gram matrix above this share of the largest have eigenvectors that the points can confirm.
CLEAR = 1e-5
# Points for each coordinate that are enough to prove the rank, where there are many more.
ENOUGH = 1.5
# Points for each coordinate from which on their Gram matrix is found in half the time of their triangle: with fewer, a
# look at it costs more where it fails than it saves where it does not.
MANY = 4
# Share of the coordinates that are looked at first: a rank within them is found in a quarter of the time.
FIRST = 5 / 8
TINY = torch.finfo(WORKING).tiny
INVERSE_ITERATIONS = 8
# How far directions that are found may be off.
OFF = 1e-13
# Random directions that look for what a span leaves out: all of them see less than a tenth of it (times sqrt(2 / pi))
# with probability 1e-16 at most (Halko, Martinsson & Tropp 2011, lemma 4.1).
LOOKS, MISSED = 16, 8.0


@dataclass(frozen=True, eq=False)
class Span:
    """x: the points in coordinates of their span, r of them. rank: dimension of the span, 0 if every point is 0."""

    x: Float[Tensor, "k r"]
    rank: int
    units: Tensor | None
    basis: Float[Tensor, "u r"] | None

    def coordinates(self, t: Float[Tensor, "m N"]) -> Float[Tensor, "m r"]:
        """Vectors of the space that the points came from, projected on the span."""
        t = t if self.units is None else t[:, self.units]
        return t if self.basis is None else t @ self.basis


def in_span(x: Float[Tensor, "k N"], rounding: Float[Tensor, "k"]) -> Span:
    """The points as they are where they fill their coordinates, else in an orthonormal basis of their span.

    `rounding`: length of the rounding error of each point. Standard normal vectors stay standard normal.

    >>> x = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 1.0, 0.0]], dtype=torch.float64)
    >>> found = in_span(x, 1e-16 * torch.ones(3).double())
    >>> found.rank, found.x.shape
    (2, torch.Size([3, 2]))
    """
    moving = x[0] != 0
    moving = moving if bool(moving.all()) else (x != 0).any(0)
    if not bool(moving.any()):
        return Span(x, 0, None, None)
    units = None if bool(moving.all()) else torch.nonzero(moving)[:, 0]
    x = x if units is None else x[:, units]
    lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    there = lengths[:, 0] > 0
    unit, basis = x / lengths.clamp_min(TINY), None
    if unit.shape[0] < unit.shape[1]:
        basis, triangle = torch.linalg.qr(unit.T)
        unit = triangle.T
        x = unit * lengths
    cut = spread_of_rounding((rounding[there] / lengths[there, 0]).clamp_max(1.0), unit.shape[1])
    n, most = int(there.sum()), unit.shape[1]
    filled = _seen_rank(unit if n == len(unit) else unit[there], cut) if n >= most else 0
    if filled == most:
        return Span(x, most, units, basis)
    # Outside the span of points that came in another precision there is more than float64's rounding.
    found = _shown_span(unit, filled, cut) if filled > 0 and n > most and cut < _solver_of(unit) else None
    if found is None:
        directions = _clear_span(unit, cut) if n > MANY * most else None
        if directions is None:
            directions = _decomposed_span(unit, cut, n)
        if directions.shape[1] == most:
            return Span(x, most, units, basis)
        found = directions, matmul(unit, directions)
    directions, inner = found
    return Span(inner.mul_(lengths), directions.shape[1], units, directions if basis is None else basis @ directions)


def _seen_rank(unit: Tensor, cut: float) -> int:
    """What `_filled` says of the coordinates of unit points: of the first part of them, where these hold the rank."""
    n = unit.shape[1]
    for part in (int(FIRST * n), n):
        some = _some_of(unit, part)[:, :part]
        filled = _filled(own_products(some), len(unit), cut) if part else 0
        if filled < part and (filled or part == n):
            break
    return filled


def _shown_span(unit: Tensor, rank: int, cut: float) -> tuple[Tensor, Tensor] | None:
    """Directions (N, rank) that unit points span, where nothing but float64's rounding is left outside; and the points.

    Of some of the points, the first `rank` coordinates are independent. Sums of these points with those coordinates,
    made orthonormal, as weights have the points' own singular values. None where not all points lie in their span, or
    where they do not clearly fill it.
    """
    some = _some_of(unit, rank)
    factor, info = torch.linalg.cholesky_ex(own_products(some[:, :rank]))
    if int(info):
        return None
    weights = torch.linalg.solve_triangular(factor, some[:, :rank].T, upper=False)
    directions = torch.linalg.qr(matmul(weights, some).T)[0]
    outside = torch.randn(unit.shape[1], LOOKS, generator=stream(0, "span", *unit.shape), dtype=WORKING)
    outside = outside.to(unit.device)
    for _ in range(2):
        outside = outside - directions @ (directions.T @ outside)
    missed = MISSED * float(torch.linalg.vector_norm(matmul(unit, outside), dim=0).max())
    if not missed <= _solver_of(unit, rank):
        return None
    inner = matmul(unit, directions)
    return (directions, inner) if _filled(own_products(_some_of(inner, rank)), len(unit), cut) == rank else None


def _clear_span(unit: Tensor, cut: float) -> Tensor | None:
    """Directions (N, r) that unit points span, where they are clearly more than rounding and all others clearly are it.

    From the Gram matrix, faster than an SVD. With V the other directions, no singular value from the next on
    is above |unit V|, which the points show to the last digit; None where that is above the cut.
    """
    values, vectors = torch.linalg.eigh(own_products(unit))
    largest = values[-1].clamp_min(TINY)
    cut = max(cut, of_solver(largest.sqrt()[None], max(unit.shape)))
    rank = int((values > max(CLEAR * float(largest), (2 * cut) ** 2)).sum())
    inside, outside = vectors[:, -rank:], vectors[:, :-rank]
    if rank == unit.shape[1] or float(torch.linalg.matrix_norm(unit @ outside)) > cut:
        return None
    return inside.flip(1)


def _decomposed_span(unit: Tensor, cut: float, n: int) -> Tensor:
    """Directions (N, r) of n unit points whose singular values are above the cut, from their triangle."""
    if n > unit.shape[1]:
        triangle = torch.linalg.qr(unit, mode="r")[1]
        parted = _parted_span(triangle, max(cut, _solver_of(unit)), cut)
        if parted is not None:
            return parted
    else:
        triangle = unit
    _, size, vh = torch.linalg.svd(triangle, full_matrices=False)
    return vh[: max(1, int((size > max(cut, of_solver(size, max(unit.shape)))).sum()))].T


def _parted_span(triangle: Tensor, high: float, low: float) -> Tensor | None:
    """Directions (N, r) of a triangle R whose singular values part: r above `high`, those of the others below `low`.

    None where they do not. R with its columns in another order is Q [A B; 0 C] (Golub & Van Loan 2013, section 5.4.2).
    No singular value of A (r, r) is above the r-th of R, and with V (N, N - r) orthonormal, |R V| is no less than the
    next one. V starts at [-A^-1 B; I], which R makes small, and inverse iteration turns it to where R is smallest.
    """
    if triangle.device.type != "cpu":
        return None
    width = len(triangle)
    if _least_of(triangle) > high:
        return torch.eye(width, dtype=WORKING)
    made: Any = scipy.linalg.qr(triangle.numpy(), mode="r", pivoting=True, check_finite=False)
    pivoted, order = torch.from_numpy(made[0]), made[1]
    size = pivoted.diagonal().abs()
    rank = int((size[:-1] / size[1:].clamp_min(TINY)).argmax()) + 1
    kept = pivoted[:rank, :rank]
    least = _least_of(kept)
    if not least > high:
        return None
    outside = torch.zeros(width, width - rank, dtype=WORKING)
    outside[order[:rank]] = -torch.linalg.solve_triangular(kept, pivoted[:rank, rank:], upper=True)
    outside[order[rank:]] = torch.eye(width - rank, dtype=WORKING)
    outside = torch.linalg.qr(outside)[0]
    for _ in range(INVERSE_ITERATIONS):
        before = outside
        outside = torch.linalg.solve_triangular(triangle.T, outside, upper=False)
        outside = torch.linalg.qr(torch.linalg.solve_triangular(triangle, outside, upper=True))[0]
        turned = float(torch.linalg.matrix_norm(outside - before @ (before.T @ outside)))
        left = float(eigenvalues(own_products(triangle @ outside))[-1].clamp_min(0).sqrt())
        if not left <= low:
            return None
        if turned * (left / least) ** 2 <= OFF:  # a turn takes away all but this share of what is missing
            return torch.linalg.qr(outside, mode="complete")[0][:, width - rank :]
    return None


def _least_of(triangle: Tensor) -> float:
    """What no singular value of a triangle is below; NaN or 0 where it is singular."""
    inverse = torch.linalg.solve_triangular(triangle, torch.eye(len(triangle), dtype=WORKING), upper=True)
    return 1 / float(torch.linalg.matrix_norm(inverse))


def spread_of_rounding(rounding: Float[Tensor, "k"], width: int) -> float:
    """Singular value below which a direction of k points with `width` coordinates may be rounding.

    >>> spread_of_rounding(torch.full((4,), 1e-7).double(), 4) < 1e-5
    True
    """
    return ROUNDINGS * float(rounding.square().mean().sqrt()) * (1 + (len(rounding) / max(1, width)) ** 0.5)


def of_solver(size: Float[Tensor, "m"], rows: int) -> float:
    """What a decomposition in float64 makes of singular values that are 0: this share of the largest."""
    return rows * torch.finfo(WORKING).eps * float(size[0])


def _solver_of(unit: Tensor, rank: int = 0) -> float:
    """The same of points from the norm of them all: at least that, or at most that of points of this rank."""
    # The root mean square of singular values is no more than the largest.
    return of_solver(torch.linalg.matrix_norm(unit)[None] / max(1, rank) ** 0.5, max(unit.shape))


def _some_of(unit: Tensor, rank: int) -> Tensor:
    """Points enough to prove this rank, spread over all of them."""
    k, few = len(unit), int(ENOUGH * rank) + 1
    return unit if k <= few else unit[torch.arange(few, device=unit.device) * k // few]


def _filled(gram: Tensor, k: int, cut: float) -> int:
    """How many coordinates, from the first on, k unit points clearly span; all of them only where that is proved.

    `gram`: of the coordinates of some of these points; no singular value of all is below that of some. Proved by
    Cholesky and inverse iteration; 0 where all coordinates may be filled, but that is not proved.
    """
    n, least = len(gram), max(cut, SHOWN * k**0.5)
    factor, info = torch.linalg.cholesky_ex(gram)
    small = ~(factor.diagonal() > least)
    small[int(info) - 1 if int(info) else n :] = True
    if bool(small.any()):
        return int(small.long().argmax())
    # A start with a part along every direction, the same for the same points.
    v = torch.cos(torch.arange(n, dtype=WORKING, device=gram.device))[:, None]
    growth = torch.zeros((), dtype=WORKING, device=gram.device)
    for _ in range(INVERSE_ITERATIONS):
        v = v / torch.linalg.vector_norm(v)
        v = torch.cholesky_solve(v, factor)
        growth = torch.linalg.vector_norm(v)
    return n if bool(growth * least**2 < 1) else 0
