"""Projection of points on polyhedral cones: the one solver behind capacity, its geometry and separability.

For a target t and signs y the cone is C = {sum_j l_j y_owner(j) x_j : l >= 0}. Its nearest point p and the residual
v = t - p solve a non-negative least squares problem; the KKT conditions

    l >= 0,    y_owner(j) x_j . v <= 0 for all j,    l_j (y_owner(j) x_j . v) = 0

hold at p and nowhere else, so every answer is certified by checking them, whatever method found it.

Methods: a block active set for all draws at once (`active_set`). Where the face is crowded (it holds most of the
dimensions, as for real classes with few units) its blocks mostly trade places: such draws, and those with
near-dependent points, go to scipy's QR-based NNLS over all points, and what that leaves without a certificate goes back
to the active set with all its patience. A draw that fails everywhere is marked, never perturbed or left out.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.linalg import solve_triangular
from scipy.optimize import nnls
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.active_set import PATIENCE, ConeProblem, active_set, members_of
from geomfeat.numerics import WORKING, require_finite, span_basis

# A residual below this share of |t| is rounding: t lies inside its cone.
INSIDE = 1e-8
# Doubles in the largest intermediate, (draws, rank, rank): 256 MB.
CHUNK_DOUBLES = 2**25


@dataclass(frozen=True, eq=False)
class ConeProjections:
    """Projections of `draws` targets, one cone each.

    Attributes:
        norms2: |p|^2. projection: p, in the coordinates of the points. residual: v = t - p within their span.
        support: indices of the points that carry p (linearly independent), -1 where unused.
        multipliers: l at the support, for the points as given (not scaled), 0 where unused.
        faces: dimension of the face of the cone that holds p (number of points in the support).
        inside: t, as far as it lies in the points' span, is in its cone (v = 0); the multipliers are then one choice
            of many.
        violation: worst violation of the KKT conditions, for points of unit length and relative to |t|.
        certified: violation <= tol. What is not certified must not be used.
        n_fallback: how many draws needed the second method.
    """

    norms2: Float[Tensor, "draws"]
    projection: Float[Tensor, "draws r"]
    residual: Float[Tensor, "draws r"]
    support: Int[Tensor, "draws s"]
    multipliers: Float[Tensor, "draws s"]
    faces: Int[Tensor, "draws"]
    inside: Bool[Tensor, "draws"]
    violation: Float[Tensor, "draws"]
    certified: Bool[Tensor, "draws"]
    n_fallback: int = 0


def project_on_cones(
    points: Float[Tensor, "k r"],
    owner: Int[Tensor, "k"],
    t: Float[Tensor, "draws r"],
    y: Float[Tensor, "draws P"],
    *,
    tol: float = 1e-10,
    reduce: bool = True,
) -> ConeProjections:
    """Project every t on the cone of the points y[owner] * points, and certify it.

    Args:
        points: generators of the cones; each may have any positive length (a cone does not care), zeros are ignored.
        owner: which manifold, 0..P-1, a point belongs to.
        t: targets. y: sign of every manifold for every target; 0 leaves a manifold out.
        tol: largest KKT violation of a certified projection (points of unit length, relative to |t|).
        reduce: work in an orthonormal basis of the points' span (exact); False if they span their coordinates already.

    Returns:
        `ConeProjections`; no draw is retried with noise or left out, one that fails is marked by `certified`.

    Raises BadInput for shapes that do not fit, NaN, or an owner out of range.

    >>> x = torch.eye(2, dtype=torch.float64)
    >>> t = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    >>> project_on_cones(x, torch.arange(2), t, torch.ones(1, 2, dtype=torch.float64)).projection.tolist()
    [[1.0, 0.0]]
    """
    _check(points, owner, t, y)
    points, t, y = (a.detach().to(points.device, WORKING) for a in (points, t, y))
    owner = owner.to(points.device)
    largest = points.abs().amax(1).clamp_min(torch.finfo(WORKING).tiny)
    norms = largest * torch.linalg.vector_norm(points / largest[:, None], dim=1)
    unit = torch.where(norms[:, None] > 0, points / norms.clamp_min(torch.finfo(WORKING).tiny)[:, None], 0.0)
    basis = span_basis(torch.linalg.qr(unit, mode="r")[1]) if reduce else None
    inner, target = (unit, t) if basis is None else (unit @ basis.T, t @ basis.T)
    problem = ConeProblem(inner, owner, members_of(owner, y.shape[1], norms > 0), target, y, tol)
    size = max(1, CHUNK_DOUBLES // max(1, problem.rank**2))
    parts = [_solve(problem.take(slice(i, i + size))) for i in range(0, t.shape[0], size)]
    found = _concatenate(parts)
    scale = torch.where(found.support >= 0, norms[found.support.clamp_min(0)], 1.0)
    outside = found if basis is None else replace(
        found, projection=found.projection @ basis, residual=found.residual @ basis
    )  # fmt: skip
    return replace(outside, multipliers=found.multipliers / scale)


def _check(points: Tensor, owner: Tensor, t: Tensor, y: Tensor) -> None:
    k, r = points.shape
    if k == 0 or r == 0 or t.shape[0] == 0:
        raise BadInput(f"points {tuple(points.shape)} and t {tuple(t.shape)} must hold at least one vector each")
    if t.shape[1] != r or y.shape[0] != t.shape[0] or owner.shape != (k,):
        raise BadInput(
            f"shapes do not fit: points {tuple(points.shape)}, owner {tuple(owner.shape)}, t {tuple(t.shape)}, "
            f"y {tuple(y.shape)}; need (k, r), (k,), (draws, r), (draws, P)"
        )
    if int(owner.min()) < 0 or int(owner.max()) >= y.shape[1]:
        raise BadInput(
            f"owner must lie in 0..{y.shape[1] - 1} (y has {y.shape[1]} columns), got up to {int(owner.max())}"
        )
    for name, value in (("points", points), ("t", t), ("y", y)):
        require_finite(value, name)


def _solve(problem: ConeProblem) -> ConeProjections:
    found = _certified(problem, *active_set(problem, PATIENCE))
    handed_on = int((~found.certified).sum())
    for method in (_one_by_one, active_set):
        failed = torch.nonzero(~found.certified)[:, 0]
        if len(failed):
            again = problem.take(failed)
            found = _improved(found, failed, _certified(again, *method(again)))
    return replace(found, n_fallback=handed_on)


def _improved(found: ConeProjections, rows: Tensor, again: ConeProjections) -> ConeProjections:
    """`found` with those of `rows` replaced that came out better the second time."""
    better = again.violation < found.violation[rows]
    fields = {}
    for name, value in vars(found).items():
        if isinstance(value, Tensor):
            fields[name] = value.clone()
            fields[name][rows[better]] = getattr(again, name)[better]
    return replace(found, **fields)


def _certified(problem: ConeProblem, index: Tensor, weight: Tensor, v: Tensor | None = None) -> ConeProjections:
    """The projections with these multipliers, and how far they violate the KKT conditions.

    With a residual `v` of its own precision, the multipliers must make up t - v to within tol of their sum: that is,
    with every point moved by tol at most. Large multipliers of nearly dependent points cannot do better.
    """
    used = weight > 0
    p = torch.bmm((weight * used)[:, None, :], problem.signed(index.clamp_min(0)))[:, 0]
    mismatch = torch.zeros_like(weight[:, 0])
    if v is None:
        v = problem.t - p
    else:
        size = torch.maximum((weight * used).sum(1), torch.linalg.vector_norm(problem.t, dim=1))
        mismatch = torch.linalg.vector_norm(problem.t - v - p, dim=1) / size.clamp_min(torch.finfo(WORKING).tiny)
        p = problem.t - v
    length = torch.linalg.vector_norm(problem.t, dim=1).clamp_min(torch.finfo(WORKING).tiny)
    price = problem.prices(v)
    on_support = torch.where(used, torch.gather(price, 1, index.clamp_min(0)).abs(), 0.0)
    norms2 = p.square().sum(1)
    worst = torch.stack([
        price.amax(1).clamp_min(0.0),
        on_support.amax(1) if index.shape[1] else torch.zeros_like(length),
        (p * v).sum(1).abs() / length,
        (norms2.sqrt() - length).clamp_min(0.0),
    ])  # fmt: skip
    violation = torch.maximum(worst.amax(0) / length, mismatch)
    return ConeProjections(
        norms2, p, v, torch.where(used, index, -1), weight * used, used.sum(1),
        torch.linalg.vector_norm(v, dim=1) <= INSIDE * length, violation, violation <= problem.tol,
    )  # fmt: skip


def _one_by_one(problem: ConeProblem) -> tuple[Tensor, Tensor, Tensor]:
    """The second method: scipy's NNLS over all points, one draw at a time; the residual from a QR of its support."""
    unit, owner = problem.unit.cpu().numpy(), problem.owner.cpu().numpy()
    t_all, y_all = problem.t.cpu().numpy(), problem.y.cpu().numpy()
    width = problem.rank
    support, multipliers = np.full((len(t_all), width), -1), np.zeros((len(t_all), width))
    residual = t_all.copy()
    for row, (t, y) in enumerate(zip(t_all, y_all, strict=True)):
        in_play = np.flatnonzero(y[owner])
        signed = (unit[in_play] * y[owner[in_play], None]).T
        try:
            l, _ = nnls(signed, t, maxiter=30 * max(1, len(in_play)))
        except RuntimeError:  # no convergence: this draw keeps the zero answer, which the certificate refuses
            continue
        used = np.flatnonzero(l > 0)[:width]
        q, triangle = np.linalg.qr(signed[:, used])
        v = t - q @ (q.T @ t)
        residual[row] = v - q @ (q.T @ v)
        if len(used) and np.abs(np.diag(triangle)).min() > 1e-14:
            l[used] = solve_triangular(triangle, q.T @ t)
        support[row, : len(used)], multipliers[row, : len(used)] = in_play[used], l[used]
    back = [torch.as_tensor(a, device=problem.unit.device) for a in (support, multipliers, residual)]
    return back[0], back[1], back[2]


def _concatenate(parts: list[ConeProjections]) -> ConeProjections:
    fields = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
        if isinstance(value, Tensor)
    }
    return ConeProjections(**fields, n_fallback=sum(part.n_fallback for part in parts))
