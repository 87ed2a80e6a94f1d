"""Where other multipliers carry the same projection, the ones of least norm: a choice that no solver has a part in.

All multipliers l of a projection p are the solutions of A l = p with l >= 0, where the columns a_j = y_j x_j of A are
the points that touch the supporting plane (a_j . v = 0). The set is a polytope, and its point nearest to the origin is
unique. It is the only one of the form (Lagrange multipliers w of A l = p)

    l = max(A'w, 0),    A l = p                                                                            (1)

and w maximises the concave, piecewise quadratic w . p - |max(A'w, 0)|^2 / 2, by Newton's method with an exact search
along each step: the slope along a line is piecewise linear, and falls. With the set of positive l known, these are the
solution of A l = p of least norm on it. (1) is the certificate, whatever led there.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.geometry.manifolds.anchor_uniqueness import DEPENDENT, touching
from geomfeat.geometry.manifolds.cones.project import ConeProjections

STEPS = 200
# Of the Hessian's largest eigenvalue: enough to step where it is singular, too little to turn a step.
RIDGE = 1e-13
# Relative error of A l = p, and of the positive l by (1), of a certified answer.
CERTAIN = 1e-9
NONE = 1e-10
# Relative error of what normal equations refuse, and the share of R's largest diagonal entry above which QR is enough.
ROUGH, CLEAR = 1e-4, 1e-6


def least_norm(
    x: Float[Tensor, "k r"],
    owner: Int[Tensor, "k"],
    y: Float[Tensor, "draws P"],
    found: ConeProjections,
    rows: Bool[Tensor, "draws"],
) -> tuple[ConeProjections, Bool[Tensor, "draws"]]:
    """`found` with the multipliers of least norm in the draws `rows`, and in which of them these are certified.

    `x`: what was projected on, without copies (which would count for their number). `faces` are those of the solver:
    the dimension of the face, not how many points have a share.

    >>> from geomfeat.geometry.manifolds import project_on_cones
    >>> x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)       # two points on one ray
    >>> t, y = torch.tensor([[5.0, -1.0]]).double(), torch.ones(1, 2).double()
    >>> owner = torch.tensor([0, 0, 1])
    >>> best, sure = least_norm(x, owner, y, project_on_cones(x, owner, t, y), torch.tensor([True]))
    >>> [round(float(l), 12) for l in best.multipliers[0]], bool(sure)
    ([1.0, 2.0], True)
    """
    sure = torch.zeros_like(rows)
    chosen: dict[int, tuple[Tensor, Tensor]] = {}
    for part, touches in touching(x, owner, y, found, rows):
        for draw, near in zip(part.tolist(), touches, strict=True):
            held = found.support[draw] >= 0
            start = x.new_zeros(len(x))
            start[found.support[draw][held]] = found.multipliers[draw][held]
            index = torch.nonzero(near | (start > 0))[:, 0]
            a = (x[index] * y[draw][owner[index]][:, None]).cpu().numpy()
            l = shortest(a, start[index].cpu().numpy())
            if l is not None:
                carries = torch.from_numpy(np.flatnonzero(l > 0)).to(x.device)
                chosen[draw] = index[carries], torch.from_numpy(l).to(x.device)[carries]
                sure[draw] = True
    return _with(found, chosen), sure


def shortest(points: np.ndarray, start: np.ndarray) -> np.ndarray | None:
    """The l >= 0 of least norm with l @ points = start @ points, or None without a certificate; start >= 0.

    >>> shortest(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), np.array([5.0, 0.0, 3.0])).round(12).tolist()
    [1.0, 2.0, 3.0]
    """
    lengths = np.linalg.norm(points, axis=1)
    # Which directions the points span is decided for unit points; the norm is that of multipliers as points are long.
    _, size, basis = np.linalg.svd(np.linalg.qr(points / lengths[:, None], mode="r"), full_matrices=False)
    a = points @ basis[size > DEPENDENT * size[0]].T / lengths.max()
    scale = np.linalg.norm(start)
    p = (start / scale) @ a
    w = np.linalg.solve(_normal(a), p)
    for _ in range(STEPS):
        held = a @ w > 0
        gradient = p - np.maximum(a @ w, 0.0) @ a
        step, end = np.linalg.solve(_normal(a[held]), np.stack([gradient, p], 1)).T
        best = None if _far_from(a, p, held, end) else _on(a, p, held)
        if best is not None:
            return best * scale
        length = _along(a @ w, a @ step, float(p @ step))
        if not 0 < length < np.inf:
            return None
        w = w + length * step
    return None


def _normal(rows: np.ndarray) -> np.ndarray:
    """The matrix of the normal equations of rows, with a ridge."""
    gram = rows.T @ rows
    return gram + RIDGE * max(np.trace(gram), np.finfo(float).tiny ** 0.5) * np.eye(len(gram))


def _far_from(a: np.ndarray, p: np.ndarray, held: np.ndarray, w: np.ndarray) -> bool:
    """Do normal equations, solved by w, leave no doubt that (1) fails on these held points? Not where w is inexact."""
    l = a @ w
    if not held.any() or not np.linalg.norm(l[held] @ a[held] - p) <= ROUGH * np.linalg.norm(p):
        return False
    top = np.abs(l[held]).max()
    return bool((l[held] < -ROUGH * top).any() or (l[~held] > ROUGH * top).any())


def _on(a: np.ndarray, p: np.ndarray, held: np.ndarray) -> np.ndarray | None:
    """The solution of least norm on the held points, if (1) certifies it for all of them."""
    if not held.any():
        return None
    l, on_held = _of_least_norm(a[held], p)
    l = a @ l
    l[held] = on_held
    top = np.abs(l[held]).max()
    if (l[held] < -CERTAIN * top).any() or (l[~held] > CERTAIN * top).any():
        return None
    # A multiplier of rounding would make its class an active one.
    l = np.where(held & (l > NONE * top), l, 0.0)
    return l if np.linalg.norm(l @ a - p) <= CERTAIN * np.linalg.norm(p) else None


def _of_least_norm(rows: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w and l = rows @ w with l @ rows = p: by QR, a fifth of the time of an SVD, where the rows clearly span all."""
    if len(rows) >= rows.shape[1]:
        q, r = np.linalg.qr(rows)
        size = np.abs(r.diagonal())
        if size.min() > CLEAR * size.max():
            part = np.linalg.solve(r.T, p)
            return np.linalg.solve(r, part), q @ part
    u, size, vh = np.linalg.svd(rows, full_matrices=False)
    kept = size > DEPENDENT * size[0]
    part = (vh[kept] @ p) / size[kept]
    return vh[kept].T @ (part / size[kept]), u[:, kept] @ part


def _along(level: np.ndarray, slope: np.ndarray, gain: float) -> float:
    """How far along a step the slope gain - sum_j max(level_j + s slope_j, 0) slope_j is 0; inf if it never is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        turns = -level / slope
    turns = np.sort(turns[np.isfinite(turns) & (turns > 0)])

    def rest(s: float) -> float:
        return gain - float(np.maximum(level + s * slope, 0.0) @ slope)

    low, high = 0, len(turns)  # the first turn at which the slope has fallen below 0
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if rest(turns[middle]) < 0 else (middle + 1, high)
    begin = turns[low - 1] if low else 0.0
    end = turns[low] if low < len(turns) else begin + max(1.0, begin)
    before, after = rest(begin), rest(end)
    return begin + (end - begin) * before / (before - after) if before > after else np.inf


def _with(found: ConeProjections, chosen: dict[int, tuple[Tensor, Tensor]]) -> ConeProjections:
    """`found` with other supports and multipliers in some draws."""
    if not chosen:
        return found
    width = max(found.support.shape[1], *(len(index) for index, _ in chosen.values()))
    spare = width - found.support.shape[1]
    support = torch.nn.functional.pad(found.support, (0, spare), value=-1)
    multipliers = torch.nn.functional.pad(found.multipliers, (0, spare))
    for draw, (index, weight) in chosen.items():
        support[draw], multipliers[draw] = -1, 0.0
        support[draw, : len(index)], multipliers[draw, : len(index)] = index, weight
    return replace(found, support=support, multipliers=multipliers)
