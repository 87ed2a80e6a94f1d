"""The methods behind `project_on_cones`: who takes which problem, and how each is called.

On the CPU, few points are solved over their Gram matrix (`compiled.gram`) and many by column generation
(`column_generation`); on another device all draws advance together in tensor operations (`active_set`). Points that are
too near to dependent for these go to `compiled.orthogonal`, then to the batched method with all its patience, then to
the package daqp, where it is installed.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from geomfeat._numba.threads import in_threads
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.cones.active_set import active_set
from geomfeat.geometry.manifolds.cones.problem import ConeProblem, in_chunks, joined

# Held points (draws, s), -1 where unused; their multipliers; the residual, where it is better than theirs.
Answer = tuple[Tensor, Tensor, Tensor | None]
# Held points and multipliers that another method has reached, for those that can go on from there.
Start = tuple[Tensor, Tensor] | None

Step = Callable[[ConeProblem, Start], Answer]

# A Gram matrix of all points pays where there are at most this many per draw, but not beyond what a cache holds.
POINTS_PER_DRAW, FEW, MANY = 4, 600, 1500
# Points that enter per round where there are fewer manifolds than that.
BLOCK = 8


def order_of_methods(problem: ConeProblem) -> list[str]:
    """The first method for this problem and the ones that follow where it fails."""
    if problem.unit.device.type != "cpu":
        first = "batched"
    else:
        k = len(problem.unit)
        first = "gram" if k <= min(MANY, max(FEW, POINTS_PER_DRAW * len(problem.t))) else "columns"
    last = ["patient", *(["daqp"] if _has_daqp() else [])]
    return [first, "orthogonal", *last]


@cache
def _has_daqp() -> bool:
    return find_spec("daqp") is not None


def _per_manifold(problem: ConeProblem) -> int:
    return max(1, -(-BLOCK // problem.y.shape[1]))


def by_gram(problem: ConeProblem, start: Start = None) -> Answer:
    """One Gram matrix of all points, then one compiled run a draw."""
    from geomfeat._numba.cone_gram import project_by_gram

    unit, t = problem.unit.numpy(), problem.t.numpy()
    gram, products = np.empty((len(unit), len(unit))), np.empty((len(t), len(unit)))
    # numpy takes a matrix times its own transpose for what it is, at half the cost.
    work = [lambda: np.matmul(unit, unit.T, out=gram), lambda: np.matmul(t, unit.T, out=products)]
    in_threads(lambda i, j: work[i](), len(work), share=1)
    draws, capacity = len(problem.t), problem.rank
    index, weight = np.full((draws, capacity), -1), np.zeros((draws, capacity))
    fixed = problem.y.numpy(), problem.starts.numpy(), _per_manifold(problem), problem.limit.numpy(), capacity
    in_threads(lambda i, j: project_by_gram(gram, products, *fixed, index, weight, i, j), draws)
    wide = max(1, int((index >= 0).sum(1).max()))
    return torch.from_numpy(index[:, :wide]), torch.from_numpy(weight[:, :wide]), None


def by_columns(problem: ConeProblem, start: Start = None) -> Answer:
    """Shared pricing rounds: in single precision, or in float64 for draws that single precision has brought to a start.

    The start must have one row a draw.
    """
    from geomfeat.geometry.manifolds.cones.column_generation import Columns

    held = problem.rank // 2 + problem.y.shape[1]
    priced = (problem.unit.float() if start is None else problem.unit).numpy()
    parts = []
    for rows in in_chunks(problem, (held * (held + problem.unit.shape[1])) // 4):
        part = problem.take(rows)
        columns = Columns(part, priced, max(2, _per_manifold(part)))
        if start is not None:
            columns.hold(start[0][rows].numpy())
        columns.run()
        parts.append((*columns.answer(), None))
    return joined(parts)


def by_basis(problem: ConeProblem, start: Start = None) -> Answer:
    """An orthonormal basis of the held points, a compiled run for each draw on the CPU; resumes another's points."""
    from geomfeat._numba.cone_qr import project_by_basis

    here = problem.to("cpu")
    draws, capacity = len(here.t), here.rank
    index, weight = np.full((draws, capacity), -1), np.zeros((draws, capacity))
    if start is not None:
        wide = min(capacity, start[0].shape[1])
        index[:, :wide], weight[:, :wide] = start[0][:, :wide].cpu().numpy(), start[1][:, :wide].cpu().numpy()
    residual = np.zeros(here.t.shape)
    t, unit = (np.ascontiguousarray(a.numpy()) for a in (here.t, here.unit))
    fixed = here.y.numpy(), here.starts.numpy(), 1, here.limit.numpy(), capacity
    in_threads(lambda i, j: project_by_basis(unit, t, *fixed, index, weight, residual, i, j), draws, share=1)
    back = [torch.from_numpy(a).to(problem.unit.device) for a in (index, weight, residual)]
    return back[0], back[1], back[2]


def batched(problem: ConeProblem, start: Start = None, *, patient: bool = False) -> Answer:
    """All draws together in tensor operations, on the device of the points."""
    parts = [problem.take(rows) for rows in in_chunks(problem, problem.rank**2)]
    return joined([(*active_set(part, patient=patient), None) for part in parts])


def by_daqp(problem: ConeProblem, start: Start = None) -> Answer:
    """The package daqp: a dual active set a draw, min |v - t|^2 subject to y x . v <= 0 (Arnström 2022)."""
    if not _has_daqp():
        raise BadInput("method='daqp' needs the package daqp: pip install 'geomfeat[daqp]', or use method='auto'")
    import daqp

    here = problem.to("cpu")
    unit, owner = here.unit.numpy(), here.owner.numpy()
    draws, k, r = len(here.t), *unit.shape
    index, weight = np.full((draws, problem.rank), -1), np.zeros((draws, problem.rank))
    residual = here.t.numpy().copy()
    for d, (t, y) in enumerate(zip(here.t.numpy(), here.y.numpy(), strict=True)):
        rows = np.ascontiguousarray(unit * y[owner][:, None])
        v, _, flag, info = daqp.solve(
            np.eye(r), -t, rows, np.zeros(k), np.full(k, -1e30), np.zeros(k, np.int32), primal_tol=1e-12
        )
        if flag != 1:  # no solution: this draw keeps the zero answer, which the certificate refuses
            continue
        l = info["lam"]
        used = np.argsort(-l, kind="stable")[: problem.rank]
        used = used[l[used] > 0]
        index[d, : len(used)], weight[d, : len(used)], residual[d] = used, l[used], v
    back = [torch.from_numpy(a).to(problem.unit.device) for a in (index, weight, residual)]
    return back[0], back[1], back[2]


# Steps of each method, one after the other while draws are not certified.
METHODS: dict[str, tuple[Step, ...]] = {
    "gram": (by_gram,),
    "columns": (by_columns, by_columns),
    "orthogonal": (by_basis,),
    "batched": (batched,),
    "patient": (lambda problem, start=None: batched(problem, start, patient=True),),
    "daqp": (by_daqp,),
}
