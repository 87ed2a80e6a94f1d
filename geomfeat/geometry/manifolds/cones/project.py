"""Projection of points on polyhedral cones: the one solver behind capacity, its geometry and separability.

For a target t and signs y the cone is C = {sum_j l_j y_owner(j) x_j : l >= 0}. Its nearest point p and the residual
v = t - p solve a non-negative least squares problem; the KKT conditions

    l >= 0,    y_owner(j) x_j . v <= 0 for all j,    l_j (y_owner(j) x_j . v) = 0

hold at p and nowhere else, so every answer is certified by checking them in float64, whatever method found it.

A cone does not care how long its points are, nor for what is orthogonal to all of them: points are scaled to unit
length, and fewer points than coordinates are written in an orthonormal basis (QR) of their span. `methods` holds the
ways to solve; a draw that one of them leaves without a certificate goes to the next. A draw that fails everywhere is
marked, never perturbed or left out.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat._numba.threads import libraries_on_one_thread
from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.cones.problem import ConeProblem
from geomfeat.geometry.manifolds.cones.solvers import METHODS, Answer, Step, order_of_methods
from geomfeat.numerics import WORKING, require_finite

# No point sees more of v than this share of |t|: t, as far as it lies in the points' span, is in its cone.
INSIDE = 1e-9
TINY = torch.finfo(WORKING).tiny
# Squares of lengths between this and its inverse stay in the range of numbers, to the last digit.
SAFE = 1e-140


@dataclass(frozen=True, eq=False)
class ConeProjections(BaseResult):
    """Projections of `draws` targets, one cone each.

    Attributes:
        norms2: |p|^2. projection: p, in the coordinates of the points. residual: v = t - p.
        support: indices of the points that carry p (linearly independent), -1 where unused.
        multipliers: l at the support, for the points as given (not scaled), 0 where unused.
        faces: dimension of the face of the cone that holds p (number of points in the support).
        inside: t, as far as it lies in the points' span, is in its cone (every point is orthogonal to v); the
            multipliers are then one choice of many.
        alone: every point outside the support is shown to be clearly on the inner side of the supporting plane (by
            1e-9 |t|): no other multipliers carry p, and v separates. Elsewhere, others may touch that plane.
        violation: worst violation of the KKT conditions, for points of unit length and relative to |t|.
        certified: violation <= tol: exact for points moved by at most tol of their length. Points of unlike signs that
            are nearer to each other than about 1e-7 can then change |p|^2 by much more. What is not certified must
            not be used.
        n_fallback: how many draws the first method left to another.

    `to_frame()`: one row for each draw: norms2, faces, inside, violation, certified, n_fallback.
    """

    norms2: Float[Tensor, "draws"]
    projection: Float[Tensor, "draws r"]
    residual: Float[Tensor, "draws r"]
    support: Int[Tensor, "draws s"]
    multipliers: Float[Tensor, "draws s"]
    faces: Int[Tensor, "draws"]
    inside: Bool[Tensor, "draws"]
    alone: Bool[Tensor, "draws"]
    violation: Float[Tensor, "draws"]
    certified: Bool[Tensor, "draws"]
    n_fallback: int = 0

    _rows = ("norms2", "faces", "inside", "violation", "certified")


def project_on_cones(
    points: Float[Tensor, "k r"],
    owner: Int[Tensor, "k"],
    t: Float[Tensor, "draws r"],
    y: Float[Tensor, "draws P"],
    *,
    tol: float = 1e-10,
    method: str = "auto",
) -> ConeProjections:
    """Project every t on the cone of the points y[owner] * points, and certify it.

    Args:
        points: generators of the cones; each may have any positive length (a cone does not care), zeros are ignored.
        owner: which manifold, 0..P-1, a point belongs to.
        t: targets. y: sign of every manifold for every target; 0 leaves a manifold out.
        tol: largest KKT violation of a certified projection (points of unit length, relative to |t|).
        method: "auto" chooses by size and device, and tries others if one fails. A name uses one alone:
            "gram" and "columns" (compiled, on the CPU), "orthogonal" (compiled, for ill-conditioned points), "batched"
            (tensor operations on any device; "patient" never gives a draw up), "daqp" (the package of that name).

    Returns:
        `ConeProjections`; no draw is retried with noise or left out, one that fails is marked by `certified`.

    Raises BadInput for shapes that do not fit, NaN, an owner out of range, or an unknown or missing method.

    >>> x = torch.eye(2, dtype=torch.float64)
    >>> t = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    >>> project_on_cones(x, torch.arange(2), t, torch.ones(1, 2, dtype=torch.float64)).projection.tolist()
    [[1.0, 0.0]]
    """
    on_cpu = points.device.type == "cpu"
    with libraries_on_one_thread() if on_cpu else nullcontext():
        _check(points, owner, t, y, method)
        return _project(points, owner, t, y, tol, method)


def _project(points: Tensor, owner: Tensor, t: Tensor, y: Tensor, tol: float, method: str) -> ConeProjections:
    points, t, y = (a.detach().to(points.device, WORKING) for a in (points, t, y))
    unit, norms = _unit(points)
    # Sorted by manifold, without points at the origin (one stays where there is nothing else).
    order = torch.argsort(owner.to(points.device), stable=True)
    usable = order[norms[order] > 0]
    order = usable if len(usable) else order[:1]
    in_order = len(order) == len(unit) and bool((order.diff() == 1).all())
    inner, target, basis = (unit if in_order else unit[order]), t, None
    if inner.shape[0] < inner.shape[1]:
        basis, triangle = torch.linalg.qr(inner.T)
        inner, target = triangle.T.contiguous(), t @ basis
    problem = ConeProblem(inner, owner.to(points.device)[order], target, y, tol)
    found = _solve(problem, order_of_methods(problem) if method == "auto" else [method])
    projection = found.projection if basis is None else found.projection @ basis.T
    index = order[found.support.clamp_min(0)]
    used = found.support >= 0
    return replace(
        found, projection=projection, residual=t - projection, support=torch.where(used, index, -1),
        multipliers=torch.where(used, found.multipliers / norms[index].clamp_min(TINY), 0.0),
    )  # fmt: skip


def _unit(points: Tensor) -> tuple[Tensor, Tensor]:
    """Points of unit length, and their lengths; without overflow, and 0 for a point at the origin."""
    lengths = torch.linalg.vector_norm(points, dim=1)
    if bool(((lengths > SAFE) & (lengths < 1 / SAFE)).all()):
        return points / lengths[:, None], lengths
    largest = points.abs().amax(1).clamp_min(TINY)
    scaled = points / largest[:, None]
    lengths = torch.linalg.vector_norm(scaled, dim=1)
    # Lengths are 0 or at least 1 here, with the largest entry 1: the bound only keeps the origin at 0.
    return scaled.div_(lengths.clamp_min(0.5)[:, None]), largest * lengths


def _check(points: Tensor, owner: Tensor, t: Tensor, y: Tensor, method: str) -> None:
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
    if not bool(torch.isin(y, torch.tensor([-1.0, 0.0, 1.0], dtype=y.dtype, device=y.device)).all()):
        raise BadInput("y must be +1, -1 or 0 (leave this manifold out) in every entry")
    if method != "auto" and method not in METHODS:
        raise BadInput(f"method={method!r}: use 'auto' or one of {', '.join(map(repr, METHODS))}")
    for name, value in (("points", points), ("t", t), ("y", y)):
        require_finite(value, name)


def _solve(problem: ConeProblem, names: list[str]) -> ConeProjections:
    first, *others = METHODS[names[0]]
    found = _certified(problem, first(problem, None))
    for step in others:
        found = _continued(problem, found, step)
    handed_on = int((~found.certified).sum()) if len(names) > 1 else 0
    for name in names[1:]:
        for step in METHODS[name]:
            found = _continued(problem, found, step)
    return replace(found, n_fallback=handed_on)


def _continued(problem: ConeProblem, found: ConeProjections, step: Step) -> ConeProjections:
    """`found`, with another try at the draws that are not certified."""
    failed = torch.nonzero(~found.certified)[:, 0]
    if not len(failed):
        return found
    again, reached = problem.take(failed), (found.support[failed], found.multipliers[failed])
    return _improved(found, failed, _certified(again, step(again, reached)))


def _improved(found: ConeProjections, rows: Tensor, again: ConeProjections) -> ConeProjections:
    """`found` with those of `rows` replaced that came out better the second time."""
    better = again.violation < found.violation[rows]
    width = max(found.support.shape[1], again.support.shape[1])
    fields = {}
    for name, value in vars(found).items():
        if isinstance(value, Tensor):
            fill = -1 if name == "support" else 0
            old, new = (_widened(v, width, fill) if name in ("support", "multipliers") else v
                        for v in (value, getattr(again, name)))  # fmt: skip
            fields[name] = old.clone()
            fields[name][rows[better]] = new[better]
    return replace(found, **fields)


def _widened(rows: Tensor, width: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, width - rows.shape[1]), value=fill)


def _certified(problem: ConeProblem, answer: Answer) -> ConeProjections:
    """The projections of an answer, and how far they violate the KKT conditions.

    With a residual v of its own precision, the multipliers must make up t - v to within tol of their sum: that is,
    with every point moved by tol at most. Large multipliers of nearly dependent points cannot do better.
    """
    index, weight, v = answer
    used = weight > 0
    length = torch.linalg.vector_norm(problem.t, dim=1).clamp_min(TINY)
    p = problem.combine(index, weight * used)
    mismatch = torch.zeros_like(length)
    if v is None:
        v = problem.t - p
    else:
        size = torch.maximum((weight * used).sum(1), length)
        mismatch = torch.linalg.vector_norm(problem.t - v - p, dim=1) / size
        p = problem.t - v
    highest, lowest, on_support, alone = problem.judged(v, index, weight, INSIDE * length)
    norms2 = p.square().sum(1)
    worst = torch.stack([
        highest.clamp_min(0.0),
        on_support,
        (p * v).sum(1).abs() / length,
        (norms2.sqrt() - length).clamp_min(0.0),
    ])  # fmt: skip
    violation = torch.maximum(worst.amax(0) / length, mismatch)
    return ConeProjections(
        norms2, p, v, torch.where(used, index, -1), weight * used, used.sum(1),
        torch.maximum(highest, -lowest) <= INSIDE * length, alone, violation, violation <= problem.tol,
    )  # fmt: skip
