"""Block active-set solution of many non-negative least squares problems at once, over the same points.

Lawson & Hanson 1974 (Solving Least Squares Problems, ch. 23), for all targets together, with blocks of points entering
at a time. Each round solves the equality problem on the held points of every draw (batched Cholesky with one step of
refinement). A non-positive multiplier shortens the step and leaves; else all points are priced with one matrix product
and the most violated of each manifold enter. Entering in blocks keeps the proof of convergence: before the first step
some entering point has a positive multiplier, because the gradient is positive along the block, so each round of
entering lowers the distance strictly.
"""

import torch
from torch import Tensor

from geomfeat.geometry.manifolds.cones.problem import ConeProblem, members_of
from geomfeat.numerics import WORKING

# A point nearer than this to the span of the held ones (both of unit length) spoils the Cholesky factor, whose diagonal
# can reach 1e-7 by rounding alone, and more by as much as the held ones are near to each other.
DEPENDENT = 1e-6
# Points that enter per round where there are fewer manifolds than that.
BLOCK = 8
# After PATIENCE rounds a draw whose held points fill more than CROWDED of the rank goes to the second method, and after
# LAST_ROUND every draw: a round costs nearly as much for one draw as for many, and near-ties can take thousands.
PATIENCE, CROWDED, LAST_ROUND = 15, 0.6, 30


def active_set(problem: ConeProblem, *, patient: bool = False) -> tuple[Tensor, Tensor]:
    """Support (draws, rank) and multipliers of every draw; those of a draw that gets stuck will not be certified.

    Unless `patient`, draws with crowded faces and stragglers are given up early, for a method that is faster for few.
    """
    members = members_of(problem)
    n, width, device = problem.t.shape[0], problem.rank, problem.unit.device
    support = torch.full((n, width), -1, dtype=torch.long, device=device)
    multipliers = torch.zeros(n, width, dtype=WORKING, device=device)
    live = torch.arange(n, device=device)
    index = torch.empty(n, 0, dtype=torch.long, device=device)
    weight, held = torch.empty(n, 0, dtype=WORKING, device=device), torch.empty(n, 0, dtype=torch.bool, device=device)
    for turn in range(20 * width + 100):
        here = problem.take(live)
        index, weight, held = _compact(index, weight, held)
        rows = here.signed(index)
        z, singular = _equality(rows, held, here.t)
        stuck, held = _thin(singular, held, weight)
        if not patient and turn >= PATIENCE:
            stuck = stuck | (held.sum(1) > CROWDED * width) | (turn >= LAST_ROUND)
        blocked = (held & (z <= 0)).any(1) & ~singular
        weight, held = _step(blocked, z, weight, held)
        weight = torch.where((~blocked & ~singular)[:, None], z * held, weight)
        at_optimum = ~blocked & ~singular
        v = here.t - torch.bmm((weight * held)[:, None, :], rows)[:, 0]
        new, violated = _entering(here, members, v, at_optimum, index, held)
        done = (at_optimum & ~violated.any(1)) | stuck
        if done.any():
            kept = index[done], weight[done], held[done] & (weight[done] > 0)
            size = min(width, index.shape[1])
            support[live[done], :size] = torch.where(kept[2], kept[0], -1)[:, :size]
            multipliers[live[done], :size] = (kept[1] * kept[2])[:, :size]
        go = ~done
        live = live[go]
        if not len(live):
            break
        index, held = torch.cat([index, new], 1)[go], torch.cat([held, violated], 1)[go]
        weight = torch.cat([weight, torch.zeros_like(new, dtype=WORKING)], 1)[go]
    return support, multipliers


def _compact(index: Tensor, weight: Tensor, held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Held points first (in order of entry), unused columns cut off."""
    width = int(held.sum(1).max()) if held.numel() else 0
    order = torch.argsort(held.to(torch.int8), dim=1, descending=True, stable=True)[:, :width]
    index, weight, held = (torch.gather(a, 1, order) for a in (index, weight, held))
    return torch.where(held, index, 0), weight * held, held


def _equality(rows: Tensor, held: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares multipliers on the held points, and which draws hold (nearly) dependent points."""
    if rows.shape[1] == 0:
        return rows.new_zeros(rows.shape[:2]), torch.zeros(rows.shape[0], dtype=torch.bool, device=rows.device)
    rows = rows * held[:, :, None]
    gram = torch.bmm(rows, rows.mT)
    # Points that are not held are rows of zeros: a 1 on the diagonal keeps the factor regular, and their multiplier 0.
    gram.diagonal(dim1=1, dim2=2).copy_(torch.where(held, gram.diagonal(dim1=1, dim2=2), 1.0))
    factor, info = torch.linalg.cholesky_ex(gram)
    distance = factor.diagonal(dim1=1, dim2=2)
    nearest = torch.cat([torch.ones_like(distance[:, :1]), distance.cummin(1).values[:, :-1]], 1)
    singular = (info > 0) | ~(distance * nearest > DEPENDENT).all(1)
    factor = torch.where(singular[:, None, None], torch.eye(factor.shape[1], dtype=WORKING, device=t.device), factor)
    z = torch.cholesky_solve(torch.bmm(rows, t[:, :, None]), factor)
    # One step of refinement, since the Gram matrix has the square of the points' condition number.
    left = t[:, :, None] - torch.bmm(rows.mT, z)
    z = z + torch.cholesky_solve(torch.bmm(rows, left), factor)
    return z[:, :, 0], singular


def _thin(singular: Tensor, held: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Where held points are dependent, the worse half of those that just entered leaves; stuck if one is left."""
    fresh = held & (weight == 0)
    rank = torch.cumsum(fresh, 1)
    keep = rank <= fresh.sum(1, keepdim=True) // 2
    stuck = singular & (fresh.sum(1) <= 1)
    return stuck, torch.where(singular[:, None] & fresh & ~stuck[:, None], held & keep, held)


def _step(blocked: Tensor, z: Tensor, weight: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Move towards z until the first multiplier reaches zero; that one leaves."""
    if not blocked.any():
        return weight, held
    negative = held & (z <= 0)
    ratio = torch.where(negative, weight / (weight - z).clamp_min(torch.finfo(WORKING).tiny), torch.inf)
    length = ratio.amin(1, keepdim=True).clamp_max(1.0)
    leaves = negative & (ratio <= length) & blocked[:, None]
    moved = (weight + length * (z - weight)).clamp_min(0.0) * ~leaves
    return torch.where(blocked[:, None], moved, weight), held & ~leaves


def _entering(
    here: ConeProblem, members: Tensor, v: Tensor, at_optimum: Tensor, index: Tensor, held: Tensor
) -> tuple[Tensor, Tensor]:
    """The most violated points of every manifold, worst first, and which of them really enter."""
    n_owners, width = members.shape
    per_manifold = min(width, max(1, -(-BLOCK // n_owners)))
    price = here.prices(v)
    # A held point is at zero up to rounding; it must not enter twice (its error is for the certificate to judge).
    price.scatter_reduce_(1, index, torch.where(held, -torch.inf, torch.inf).to(WORKING), "amin")
    price = torch.where(members >= 0, price[:, members.clamp_min(0)], -torch.inf)
    worst, which = price.topk(per_manifold, dim=2)
    chosen = torch.gather(members.expand(len(v), -1, -1), 2, which).flatten(1).clamp_min(0)
    worst, order = worst.flatten(1).sort(1, descending=True)
    limit = here.limit[:, None]
    room = here.rank - held.sum(1, keepdim=True)
    place = torch.arange(worst.shape[1], device=v.device)
    return torch.gather(chosen, 1, order), (worst > limit) & (place < room) & at_optimum[:, None]
