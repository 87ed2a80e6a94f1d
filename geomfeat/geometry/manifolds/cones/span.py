"""The span of a cloud of points, as far as the precision of its data separates it from rounding.

A cone does not care how long its points are: directions in which points differ by rounding alone would count like all
others. A matrix of unit points whose rows carry rounding of relative size eta, spread over N coordinates at random, has
singular values of up to about eta (1 + sqrt(k / N)) from rounding. What lies below a few times that is no direction of
the points.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.numerics import WORKING, own_products

# Stored numbers err by .3 of a rounding (root mean square), sums of products in the same precision by about one.
ROUNDINGS = 2.0
# A Gram matrix shows singular values down to this share of the largest possible one; smaller ones need the points.
SHOWN = 1e-6
# Eigenvalues of a Gram matrix above this share of the largest have eigenvectors that the points can confirm.
CLEAR = 1e-5
# Points for each coordinate that are enough to prove the rank, where there are many more.
ENOUGH = 1.5
TINY = torch.finfo(WORKING).tiny
INVERSE_ITERATIONS = 8


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
    moving = (x != 0).any(0)
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
    if n >= most and _fills(unit[there], cut):
        return Span(x, most, units, basis)
    directions = _clear_span(unit, cut) if n > most else None
    if directions is None:
        triangle = torch.linalg.qr(unit, mode="r")[1] if n > most else unit
        _, size, vh = torch.linalg.svd(triangle, full_matrices=False)
        rank = max(1, int((size > max(cut, of_solver(size, max(unit.shape)))).sum()))
        if rank == most:
            return Span(x, most, units, basis)
        directions = vh[:rank].T
    rank = directions.shape[1]
    basis = directions if basis is None else basis @ directions
    return Span((unit @ directions) * lengths, rank, units, basis)


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


def spread_of_rounding(rounding: Float[Tensor, "k"], width: int) -> float:
    """Singular value below which a direction of k points with `width` coordinates may be rounding.

    >>> spread_of_rounding(torch.full((4,), 1e-7).double(), 4) < 1e-5
    True
    """
    return ROUNDINGS * float(rounding.square().mean().sqrt()) * (1 + (len(rounding) / max(1, width)) ** 0.5)


def of_solver(size: Float[Tensor, "m"], rows: int) -> float:
    """What a decomposition in float64 makes of singular values that are 0: this share of the largest."""
    return rows * torch.finfo(WORKING).eps * float(size[0])


def _fills(unit: Tensor, cut: float) -> bool:
    """Do unit points clearly span all of their coordinates? Proved for some of them, by Cholesky and inverse iteration.

    No singular value of all rows is below that of some of them.
    """
    k, n = unit.shape
    least = max(cut, SHOWN * k**0.5)
    step = max(1, int(k / (ENOUGH * n))) if n else 1
    some = unit[::step]
    factor, info = torch.linalg.cholesky_ex(some.T @ some)
    if int(info) or not bool((factor.diagonal() > least).all()):
        return False
    # A start with a part along every direction, the same for the same points.
    v = torch.cos(torch.arange(n, dtype=WORKING, device=unit.device))[:, None]
    growth = torch.zeros((), dtype=WORKING, device=unit.device)
    for _ in range(INVERSE_ITERATIONS):
        v = v / torch.linalg.vector_norm(v)
        v = torch.cholesky_solve(v, factor)
        growth = torch.linalg.vector_norm(v)
    return bool(growth * least**2 < 1)
