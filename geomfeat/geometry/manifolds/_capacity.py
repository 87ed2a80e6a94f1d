"""Manifold capacity with its geometry, from cone projections of Gaussian directions.

Chou, Le, Wang & Chung 2025 (arXiv 2503.18114): for P manifolds, t ~ N(0, I_N) and labels y in {-1, +1}^P, p is the
projection of t on the cone {sum_ij l_ij y_i x_ij : l >= 0}, and

    1 / alpha = E |p|^2 / P

(the statistical dimension of the cone per manifold; Amelunxen et al. 2014). Given the face that holds p, of dimension
k, |p|^2 is chi-squared with k degrees of freedom (eq. 5.2 there), so E k = E |p|^2 and Var |p|^2 = Var k + 2 E k: the
face counts estimate the same number with less error. Dimension, radius, utility and alignments come from the same
solves: see `glue`, `pairs` and `per_manifold`; so does a prediction of the simulated capacity: see `face_median`.
"""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geomfeat._numba.threads import libraries_on_one_thread
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.anchor_points import Anchors
from geomfeat.geometry.manifolds.capacity_floor import floor_note, floor_of
from geomfeat.geometry.manifolds.cones.project import ConeProjections
from geomfeat.geometry.manifolds.face_median import capacity_from_median
from geomfeat.geometry.manifolds.glue_geometry import Glue, glue_geometry
from geomfeat.geometry.manifolds.nonseparable_fraction import Nonseparable, nonseparable
from geomfeat.geometry.manifolds.per_manifold import manifold_geometry
from geomfeat.geometry.manifolds.per_pair import pair_geometry
from geomfeat.geometry.manifolds.point_clouds import Manifolds, as_manifolds
from geomfeat.geometry.manifolds.random_directions import Draws, blocks_of, given_draws, random_draws
from geomfeat.geometry.manifolds.resampling.data_errors import per_mean, resampled, sources_of
from geomfeat.geometry.manifolds.resampling.solved_draws import Placed, Solved, joined, placed, solved
from geomfeat.geometry.manifolds.result import Capacity, with_data_errors
from geomfeat.memory import require_memory
from geomfeat.statistics.influence_functions import stderr

# Float64 values held at once for every draw: per dimension, per point, and per class and dimension.
DIRECTIONS, PRICES, ANCHORS = 4, 3, 4
# Most draws until the error over them has reached its target, unless another number is given.
MOST_DRAWS = 10_000


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
    weights: Any = None,
    target_se: float | tuple[float, int] | None = None,
    groups: Any = None,
    resample: str | Iterable[str] | None = "auto",
) -> Capacity:
    """Manifold capacity and GLUE geometry of labelled points.

    Args:
        points: a Representation with labels, an (n, N) array with labels, a (P, M, N) array, or a list of (M_i, N)
            arrays; numpy or torch. Points at the origin are ignored.
        n_draws: number of random directions t with labels y. Equal seeds give equal (t, y) for equal N and P, so that
            layers, checkpoints and models are compared under common random numbers; the first n draws do not depend
            on how many follow.
        dichotomies: "random" (independent signs), "one-vs-rest", "balanced", or an (m, P) array of +-1: m dichotomies
            of interest that alternate over the draws. Where a fixed set of dichotomies alternates (given ones with
            n_draws at least 2 m, all kinds with up to 32 of them), errors are those within a dichotomy.
        center: None (points as they are) or "global" (minus the mean of all points).
        draws: (t, y) of shapes (n_draws, N), (n_draws, P) to use in place of random ones.
        weights: how many copies each point counts as (0 leaves it out). Repeated points do not change a cone, so
            without centring positive weights have no effect.
        target_se: draw n_draws at a time until the error over draws is at most this share of the capacity, or 10,000
            draws are used; (share, most draws) for another limit. The stopping point depends on the draws, so both the
            capacity and its error are biased by a share of order 1 / n_draws, which is negligible for n_draws of 100 or
            more.
        groups: which run, session or block each point belongs to, shaped like weights; None: those of a
            Representation, if it has any.
        resample: what errors are over, besides the draws (in quadrature), by a jackknife under the same draws: "groups"
            (trials, where there are no groups), "trials", "units" (neurons, each as exchangeable as any other), or
            several, such as ("groups", "units"). "auto": groups where there are any, else trials up to 100 points, else
            the draws alone, as at the floor (`at_floor`), where numbers are not compared and each deletion takes as
            long as the whole; None: the draws alone. `Capacity.errors_over` says which.

    Returns:
        `Capacity`. Draws whose projection is not certified are counted in `n_uncertified` and left out.

    Raises BadInput for points, labels or options that do not fit, if every point is at the origin, or if the points
    differ by no more than the rounding of their common offset. A note reports if much of their differences is rounding.

    >>> points = torch.eye(12, dtype=torch.float64).reshape(4, 3, 12)     # 4 simplices of 3 orthonormal points: 2/3
    >>> c = capacity(points, n_draws=400)
    >>> abs(c.capacity - 2 / 3) < 4 * c.capacity_se
    True
    """
    manifolds = as_manifolds(points, labels, center=center, weights=weights, groups=groups, device=device)
    sources = sources_of(resample, manifolds)
    kind = dichotomies if isinstance(dichotomies, str) and draws is None else "given"
    share, most = _most_draws(n_draws, target_se, draws)
    if draws is not None:
        every = given_draws(draws, manifolds.x.shape[1], manifolds.n_manifolds)
        n_draws = most = len(every.t)
    else:
        every = random_draws(most, manifolds.x.shape[1], manifolds.n_manifolds, dichotomies, seed)
    whole, found = capacity_under(manifolds, every, n_draws, share)
    found = replace(found, dichotomies=kind, center=center, seed=seed)
    used = every.take(slice(0, found.n_draws))
    if resample == "auto" and found.at_floor:
        sources = ()
    again = {
        source: resampled(
            whole, manifolds, used, source, center=center, share=found.frac_nonseparable, seed=seed
        )
        for source in sources
    }  # fmt: skip
    if resample == "auto":  # classes of single points have no trials to leave out, which nobody asked for
        again = {source: one for source, one in again.items() if source != "trials" or not isinstance(one, str)}
    return with_data_errors(found, again)


def capacity_under(
    manifolds: Manifolds, every: Draws, n_draws: int, target_se: float | None = None
) -> tuple[Solved, Capacity]:
    """Capacity from the first n_draws of `every`, or from as many as the target requires."""
    if not bool((manifolds.x != 0).any()):
        raise BadInput(
            "every point is at the origin, or no further from it than rounding after centring (constant features, or a "
            "common offset that takes up all digits: subtract it before it is rounded): nothing can be separated"
        )
    place = placed(manifolds)
    _require_memory(place.manifolds, n_draws)
    with libraries_on_one_thread() if manifolds.x.device.type == "cpu" else nullcontext():
        return _solved_under(place, manifolds, every, n_draws, target_se)


def _solved_under(
    place: Placed, manifolds: Manifolds, every: Draws, n_draws: int, target_se: float | None
) -> tuple[Solved, Capacity]:
    parts: list[ConeProjections] = []
    rows, reached = slice(0, 0), True
    for block in blocks_of(n_draws, len(every.t)):
        here = place.draws(every.take(block))
        parts = [joined([*parts, place.project(here.t, here.y)])]
        rows = slice(0, block.stop)
        reached = target_se is None or _relative_error(parts[0], every.take(rows).strata) <= target_se
        if reached:
            break
    found = parts[0]
    if rows.stop > n_draws:
        _require_memory(place.manifolds, rows.stop)
    draws = place.draws(every.take(rows))
    if not bool(found.certified.any()):
        raise ArithmeticError(
            f"none of {len(draws.t)} draws could be certified (violation {float(found.violation.min()):.1e} at best): "
            "remove nearly dependent units, or add negligible noise"
        )
    whole = solved(place, draws, found)
    made = _summary(whole, every.take(rows).strata)
    late = "" if reached else f"{target_se:g} of the capacity not reached with {len(draws.t)} draws: allow more"
    zeros, n_features = int((manifolds.x == 0).all(1).sum()), manifolds.x.shape[1]
    notes = (*made.notes, *([f"{zeros} points at the origin ignored"] if zeros else []))
    notes = (*notes, *([f"target_se={late}"] if late else []), *([place.blurred] if place.blurred else []))
    return whole, replace(
        # E|cos| of two random directions in N dimensions is sqrt(2 / (pi N)) for large N.
        made, notes=notes, n_features=n_features, alignment_floor=math.sqrt(2 / (math.pi * n_features)),
        per_manifold=made.per_manifold.in_units_of(place.unit),
    )  # fmt: skip


def _require_memory(manifolds: Manifolds, n_draws: int) -> None:
    """OutOfMemory, before anything is made, where anchors, axes and prices of all draws would not fit."""
    (k, r), p = manifolds.x.shape, manifolds.n_manifolds
    doubles = n_draws * (DIRECTIONS * r + PRICES * k + ANCHORS * p * (r + p))
    require_memory(
        8 * doubles, f"the capacity of {p} classes of {k} points in {r} dimensions with {n_draws} draws",
        "use fewer draws (n_draws=, target_se=), fewer points, or features projected to fewer dimensions",
        manifolds.x.device,
    )  # fmt: skip


def _summary(of: Solved, strata_of_all: Tensor | None) -> Capacity:
    """Everything that is computed from the projections, with errors over the draws.

    Of points that are far, the manifolds are the nearer ones that were projected on.
    """
    manifolds, found, draws, n_manifolds = of.manifolds, of.found, of.draws, of.manifolds.n_manifolds
    sure = found.certified
    # Anchors are on the CPU, and so is all that is taken from them.
    strata = None if draws.strata is None else draws.strata[sure].cpu()
    anchors, p2, k = of.anchors, found.norms2[sure].cpu(), found.faces[sure].cpu()
    glue, on_glue = _glue(of, anchors, strata)
    alignments, per_pair, on_pairs = pair_geometry(anchors, strata, manifolds.classes)
    judged = nonseparable(manifolds.x, manifolds.owner, draws.y, found, draws.strata)
    inside = found.inside[sure].double().cpu()
    floor = floor_of(found, draws.y)
    simulated, simulated_se = capacity_from_median(k, n_manifolds, strata)
    alpha, alpha_se = _per_mean(n_manifolds, p2, strata)
    faces, faces_se = _per_mean(n_manifolds, k.double(), strata)
    unsure, settled = of.unsure, of.settled
    return Capacity(
        capacity=alpha, capacity_se=alpha_se, capacity_faces=faces, capacity_faces_se=faces_se,
        capacity_floor=n_manifolds / of.rank, at_floor=floor, **vars(glue), **vars(alignments),
        alignment_floor=math.nan,
        frac_inside=float(inside.mean()), frac_inside_se=float(stderr(inside, strata)),
        frac_nonseparable=judged.share, frac_nonseparable_se=judged.stderr,
        simulated_capacity=simulated, simulated_capacity_se=simulated_se,
        max_violation=float(found.violation.max()), n_uncertified=int((~sure).sum()),
        n_ambiguous=int(unsure.sum()), n_draws=len(sure), n_features=of.rank, norms2=found.norms2,
        faces=found.faces, certified=sure, inside=found.inside, strata=strata_of_all, dichotomies="given",
        center=None, seed=0, classes=manifolds.classes,
        per_manifold=manifold_geometry(anchors, strata, manifolds.classes), per_pair=per_pair,
        sizes=manifolds.sizes,
        notes=_notes(manifolds, of.rank, found, judged, (int(of.lost[sure].sum()), unsure, settled), floor),
        influences={name: _of_all(on, sure.cpu()) for name, on in (on_glue | on_pairs).items()},
    )  # fmt: skip


def _glue(of: Solved, anchors: Anchors, strata: Tensor | None) -> tuple[Glue, dict[str, Tensor]]:
    """Dimension, radius and utility of the certified draws, and the influence of each draw on them."""
    glue, on = glue_geometry(anchors, of.found.norms2[of.found.certified].cpu(), strata)
    if of.far and of.one_sided:
        before, glue = glue, of.far.of_one_side(glue)
        on = {name: one * (getattr(glue, name) / getattr(before, name)) for name, one in on.items()}
    return glue, on


def _of_all(influence: Tensor, certified: Tensor) -> Tensor:
    """The influence on a mean over the certified draws, as one on a mean over all."""
    out = torch.zeros(len(certified), dtype=influence.dtype, device=influence.device)
    out[certified] = influence * (len(certified) / len(influence))
    return out


def _most_draws(n_draws: int, target_se: Any, draws: Any) -> tuple[float | None, int]:
    """The error to reach and how many draws there may be, or BadInput for options that do not fit."""
    if draws is not None and target_se is not None:
        raise BadInput("target_se= needs random draws, but draws= gives them: leave one of the two out")
    if int(n_draws) != n_draws or n_draws < 2:
        raise BadInput(f"n_draws={n_draws}: give a whole number of at least 2 (200 is usual)")
    if target_se is None:
        return None, int(n_draws)
    share, most = target_se if isinstance(target_se, tuple) else (target_se, max(MOST_DRAWS, int(n_draws)))
    if not 0 < share < math.inf:
        raise BadInput(f"target_se={target_se}: give a share of the capacity above 0, e.g. .02")
    if int(most) != most or most < n_draws:
        raise BadInput(f"target_se={target_se}: allow a whole number of draws, at least n_draws={n_draws}")
    return float(share), int(most)


def _per_mean(n_manifolds: int, values: Tensor, strata: Tensor | None) -> tuple[float, float]:
    """P / mean of the values and its standard error."""
    value = per_mean(n_manifolds, values)
    return value, value * float(stderr(values, strata)) / float(values.mean()) if value > 0 else math.nan


def _relative_error(found: ConeProjections, strata: Tensor | None) -> float:
    p2 = found.norms2[found.certified]
    alpha, error = _per_mean(1, p2, None if strata is None else strata.to(p2.device)[found.certified])
    return error / alpha if math.isfinite(error) else math.inf


def _notes(
    manifolds: Manifolds,
    rank: int,
    found: ConeProjections,
    judged: Nonseparable,
    choices: tuple[int, Tensor, Tensor],
    floor: bool,
) -> tuple[str, ...]:
    n, bad = len(found.norms2), int((~found.certified).sum())
    single = sum(size == 1 for size in manifolds.sizes)
    inside, unsure, settled = choices
    out = []
    if floor:
        out.append(floor_note(manifolds.n_manifolds, rank))
    if manifolds.n_manifolds == 1:
        out.append("one class only: the capacity describes its size, not its separation from other classes")
    if bad:
        out.append(f"{bad} of {n} draws not certified (worst violation {float(found.violation.max()):.0e}), left out")
    if inside:
        out.append(f"{inside} of {n} draws lie inside their cone: they count in the capacity alone")
    if bool(unsure.any()):
        out.append(
            f"in {int(unsure.sum())} of {n} draws other points could carry the projection as well: dimension, radius, "
            "utility and alignments rest on the multipliers of least norm there, one choice of many"
        )
    if bool((unsure & ~settled).any()):
        out.append(f"in {int((unsure & ~settled).sum())} of them these were not certified: left out of the geometry")
    if judged.judged < judged.drawn:
        out.append(f"separability judged for {judged.judged} of {judged.drawn} different dichotomies")
    if single:
        out.append(f"{single} of {manifolds.n_manifolds} classes have a single point: a point, not a manifold")
    return tuple(out)
