"""Manifold capacity with its geometry, from cone projections of Gaussian directions.

Chou, Le, Wang & Chung 2025 (arXiv 2503.18114): for P manifolds, t ~ N(0, I_N) and labels y in {-1, +1}^P, p is the
projection of t on the cone {sum_ij l_ij y_i x_ij : l >= 0}, and

    1 / alpha = E |p|^2 / P

(the statistical dimension of the cone per manifold; Amelunxen et al. 2014). Dimension, radius, utility and alignments
come from the same solves: see `glue`. So does a prediction of the simulated capacity: the face that holds p has
dimension k, and by the conic Crofton formula (Amelunxen et al. 2014, eq. 5.10; McCoy & Tropp 2014) a Gaussian
projection to n dimensions keeps the classes separable with probability 2 sum_{odd i} P(k = n - i), which crosses 1/2
near the median of k: alpha_sim is about P / median(k).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.cone import ConeProjections, project_on_cones
from geomfeat.geometry.dichotomies import draw_dichotomies, given_dichotomies
from geomfeat.geometry.glue import anchors_of, glue_geometry
from geomfeat.geometry.manifolds import Manifolds, as_manifolds
from geomfeat.geometry.separability import distinct_dichotomies, separability
from geomfeat.numerics import WORKING, as_tensor, span_basis, stream

# Separability is judged for at most this many different dichotomies (each costs about as much as a few draws).
MOST_JUDGED = 50
RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Capacity:
    """Capacity and geometry of P manifolds. A field `x_se` is the standard error of x over the draws; NaN: undefined.

    Attributes:
        capacity: alpha = P / E|p|^2. dimension: D. radius: R, ratio of means (NaN if no anchor ever moves).
        utility: Psi; alpha = Psi (1 + R^-2) / D exactly.
        center_alignment, axis_alignment, center_axis_alignment: mean absolute cosines; compare with
            alignment_floor = sqrt(2 / (pi N)), what random directions give.
        frac_inside: share of draws with t inside its cone; these count in `capacity` alone.
        frac_nonseparable: share of the judged dichotomies that no hyperplane through the origin separates strictly.
        simulated_capacity: P / median(k), a prediction (no simulation) of what random projections would show.
        max_violation: worst KKT violation of all draws. n_uncertified: draws above the tolerance, left out everywhere.
        n_draws: all draws. norms2: |p|^2 per draw; faces: k per draw. dichotomies: which kind of labels.
        notes: what limits these numbers, in sentences.
    """

    capacity: float
    capacity_se: float
    dimension: float
    dimension_se: float
    radius: float
    radius_se: float
    utility: float
    utility_se: float
    center_alignment: float
    center_alignment_se: float
    axis_alignment: float
    axis_alignment_se: float
    center_axis_alignment: float
    center_axis_alignment_se: float
    alignment_floor: float
    frac_inside: float
    frac_inside_se: float
    frac_nonseparable: float
    frac_nonseparable_se: float
    simulated_capacity: float
    simulated_capacity_se: float
    max_violation: float
    n_uncertified: int
    n_draws: int
    norms2: Float[Tensor, "draws"]
    faces: Int[Tensor, "draws"]
    dichotomies: str
    center: str | None
    notes: tuple[str, ...] = ()


def capacity(
    points: Any,
    labels: Any = None,
    *,
    n_draws: int = 200,
    dichotomies: Any = "random",
    center: str | None = None,
    seed: int = 0,
    draws: tuple[Any, Any] | None = None,
    device: str | torch.device | None = None,
) -> Capacity:
    """Manifold capacity and GLUE geometry of labelled points.

    Args:
        points: a Representation with labels, an (n, N) array with labels, a (P, M, N) array, or a list of (M_i, N)
            arrays; numpy or torch. Points at the origin are ignored.
        n_draws: number of random directions t with labels y. Equal seeds give equal (t, y) for equal N and P, so that
            layers, checkpoints and models are compared under common random numbers.
        dichotomies: "random" (independent signs), "one-vs-rest", "balanced", or an (n_draws, P) array of +-1.
        center: None (points as they are) or "global" (minus the mean of all points).
        draws: (t, y) of shapes (n_draws, N), (n_draws, P) to use in place of random ones.

    Returns:
        `Capacity`. Draws whose projection is not certified are counted in `n_uncertified` and left out.

    Raises BadInput for points, labels or options that do not fit, or if every point is at the origin.

    >>> points = torch.eye(12, dtype=torch.float64).reshape(4, 3, 12)     # 4 simplices of 3 orthonormal points: 2/3
    >>> c = capacity(points, n_draws=400)
    >>> abs(c.capacity - 2 / 3) < 4 * c.capacity_se
    True
    """
    manifolds = as_manifolds(points, labels, center=center, device=device)
    if not bool((manifolds.x != 0).any()):
        raise BadInput("every point is at the origin (constant features after centring?): there is nothing to separate")
    t, y, kind = _draws(manifolds, n_draws, dichotomies, seed, draws)
    n_features = manifolds.x.shape[1]
    x, t = _in_span(manifolds.x, t)
    found = project_on_cones(x, manifolds.owner, t, y)
    if not bool(found.certified.any()):
        raise ArithmeticError(
            f"none of {len(t)} draws could be certified (violation {float(found.violation.min()):.1e} at best): "
            "remove nearly dependent units, or add noise of a size that means nothing"
        )
    glue = glue_geometry(anchors_of(x, manifolds.owner, manifolds.n_manifolds, found), t, found)
    judged = _nonseparable(x, manifolds.owner, y)
    p2 = found.norms2[found.certified]
    mean = float(p2.mean())
    alpha = manifolds.n_manifolds / mean if mean > 0 else math.nan
    inside = float(found.inside[found.certified].double().mean())
    simulated, simulated_se = _simulated(found.faces[found.certified], manifolds.n_manifolds, seed)
    return Capacity(
        capacity=alpha, capacity_se=alpha * _mean_stderr(p2) / mean if mean > 0 else math.nan, **vars(glue),
        alignment_floor=math.sqrt(2 / (math.pi * n_features)),
        frac_inside=inside, frac_inside_se=_share_stderr(inside, len(p2)),
        frac_nonseparable=judged[0], frac_nonseparable_se=judged[1],
        simulated_capacity=simulated, simulated_capacity_se=simulated_se,
        max_violation=float(found.violation.max()), n_uncertified=int((~found.certified).sum()), n_draws=len(t),
        norms2=found.norms2, faces=found.faces, dichotomies=kind, center=center,
        notes=_notes(manifolds, found, judged),
    )  # fmt: skip


def _draws(
    manifolds: Manifolds, n_draws: int, dichotomies: Any, seed: int, draws: tuple[Any, Any] | None
) -> tuple[Tensor, Tensor, str]:
    n_features, n_manifolds = manifolds.x.shape[1], manifolds.n_manifolds
    if draws is not None:
        t, y = as_tensor(draws[0], "draws[0]", WORKING), given_dichotomies(draws[1], None, n_manifolds)
        if t.ndim != 2 or t.shape[1] != n_features or len(t) != len(y) or len(t) < 2:
            raise BadInput(
                f"draws have shapes t {tuple(t.shape)} and y {tuple(y.shape)}, need (n_draws, {n_features}) and "
                f"(n_draws, {n_manifolds}) with n_draws at least 2"
            )
        kind = "given"
    else:
        if int(n_draws) != n_draws or n_draws < 2:
            raise BadInput(f"n_draws={n_draws}: give a whole number of at least 2 (200 is usual)")
        t = torch.randn(int(n_draws), n_features, generator=stream(seed, "capacity", "t"), dtype=WORKING)
        named = isinstance(dichotomies, str)
        kind = dichotomies if named else "given"
        y = (
            draw_dichotomies(dichotomies, int(n_draws), n_manifolds, seed)
            if named
            else given_dichotomies(dichotomies, int(n_draws), n_manifolds)
        )
    return t.to(manifolds.x.device), y.to(manifolds.x.device), kind


def _in_span(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Points and directions in an orthonormal basis of the points' span, where t is still standard normal."""
    lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(torch.finfo(WORKING).tiny)
    basis = span_basis(torch.linalg.qr(x / lengths, mode="r")[1])
    return x @ basis.T, t @ basis.T


def _nonseparable(x: Tensor, owner: Tensor, y: Tensor) -> tuple[float, float, int, int]:
    """Share, standard error, dichotomies judged, dichotomies drawn (up to sign)."""
    drawn = len(distinct_dichotomies(y, len(y))[0])
    rows, counts = distinct_dichotomies(y, MOST_JUDGED)
    if x.shape[1] == len(x):  # linearly independent points: every labelling is separable
        return 0.0, 0.0, drawn, drawn
    answer = separability(x, owner, rows)
    counts = counts[answer.decided].double()
    if not len(counts):
        return math.nan, math.nan, 0, drawn
    share = float(counts[~answer.separable[answer.decided]].sum() / counts.sum())
    return share, _share_stderr(share, int(counts.sum())), len(counts), drawn


def _simulated(faces: Tensor, n_manifolds: int, seed: int) -> tuple[float, float]:
    """P / median(k) and its bootstrap standard error."""
    k = faces.cpu()
    noise = stream(seed, "capacity", "bootstrap")
    again = [_grouped_median(k[torch.randint(0, len(k), (len(k),), generator=noise)]) for _ in range(RESAMPLES)]
    values = torch.tensor([n_manifolds / m for m in again], dtype=WORKING)
    return n_manifolds / _grouped_median(k), float(values.std())


def _grouped_median(k: Tensor) -> float:
    """Median of whole numbers spread over +-1/2 each: exact for the binomial k of P independent points, P / 2."""
    counts = torch.bincount(k).to(WORKING)
    below = counts.cumsum(0) - counts
    half = len(k) / 2
    middle = int((below + counts >= half).nonzero()[0])
    # Never below 1/4: a cone that hardly ever holds anything has no finite prediction from so few draws.
    return max(0.25, middle - 0.5 + (half - float(below[middle])) / float(counts[middle]))


def _mean_stderr(values: Tensor) -> float:
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _share_stderr(share: float, n: int) -> float:
    return math.sqrt(share * (1 - share) / n)


def _notes(manifolds: Manifolds, found: ConeProjections, judged: tuple[float, float, int, int]) -> tuple[str, ...]:
    n, bad = len(found.norms2), int((~found.certified).sum())
    single = sum(size == 1 for size in manifolds.sizes)
    inside = int((found.inside & found.certified).sum())
    zeros = int((manifolds.x == 0).all(1).sum())
    out = []
    if bad:
        out.append(f"{bad} of {n} draws not certified (worst violation {float(found.violation.max()):.0e}), left out")
    if inside:
        out.append(f"{inside} of {n} draws lie inside their cone: they count in the capacity alone")
    if judged[2] < judged[3]:
        out.append(f"separability judged for {judged[2]} of {judged[3]} different dichotomies")
    if single:
        out.append(f"{single} of {manifolds.n_manifolds} classes have a single point: a point, not a manifold")
    if zeros:
        out.append(f"{zeros} points at the origin ignored")
    return tuple(out)
