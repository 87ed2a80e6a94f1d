"""Simulated capacity: how many dimensions a random projection must keep for a linear read-out to separate the classes.

Cohen, Chung, Lee & Sompolinsky 2020 (Nat. Commun. 11, 746), Methods: project the features at random to n dimensions,
draw a dichotomy of the P classes, ask whether it is linearly separable; n* is the n at which half of the trials are,
and the capacity P / n*. It needs no theory of the manifolds: it is what the theories are held against.

Every trial has its own dichotomy and Gaussian matrix, of which n dimensions use the first n columns. These
projections are nested, so a trial that is separable at n is so at every larger n, and has one critical dimension: the
fewest that separate it. Bisection finds it in about log2(range) exact decisions. The distribution of the critical
dimensions over trials is the share of separable dichotomies at every n at once, from independent trials: its errors are
binomial, and n* is its median, interpolated linearly between integers. A trial that is not separable in the whole space
has critical dimension infinity.

The faces of the cone projections predict the whole curve (`crofton`); on 47 cells the two agree within their errors.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.cones._separability import lifted, separability, unit_points
from geomfeat.geometry.manifolds.cones.distant_points import Far, blur_note, brought_near
from geomfeat.geometry.manifolds.cones.separating_hyperplane import separates
from geomfeat.geometry.manifolds.cones.span import of_solver, spread_of_rounding
from geomfeat.geometry.manifolds.point_clouds import Manifolds, as_manifolds
from geomfeat.geometry.manifolds.random_directions import labels_for
from geomfeat.geometry.manifolds.theory.crofton_prediction import capacity_at_half, crossing
from geomfeat.numerics import WORKING, stream


@dataclass(frozen=True, eq=False)
class SimulatedCapacity(PlottableResult):
    """Capacity of P classes under random projections. Shares are over the decided trials.

    Attributes:
        capacity: P / n*; NaN if fewer than half of the dichotomies are separable in the whole space. capacity_se: its
            standard error, from the binomial error of the share and the slope of the curve.
        n_half: n*, interpolated between integers (inf if never reached).
        critical: fewest dimensions that separate each trial; inf: never, NaN: undecided.
        dimensions: 0 .. rank. shares: share of the trials separable at each. shares_se: binomial standard errors.
        frac_nonseparable: share of the trials that no dimension separates.
        n_undecided: trials without a proof either way, left out. n_trials: all trials.
        n_manifolds: P. rank: dimension of the points' span. bias: whether read-outs had one.
        dichotomies, center: as asked for. notes: what limits these numbers, in sentences.

    `to_frame()`: one row for each number of dimensions: dimensions, shares, shares_se, then all single numbers.
    """

    capacity: float
    capacity_se: float
    n_half: float
    critical: Float[Tensor, "trials"]
    dimensions: Int[Tensor, "m"]
    shares: Float[Tensor, "m"]
    shares_se: Float[Tensor, "m"]
    frac_nonseparable: float
    n_undecided: int
    n_trials: int
    n_manifolds: int
    rank: int
    bias: bool
    dichotomies: str
    center: str | None
    notes: tuple[str, ...] = ()

    _rows = ("dimensions", "shares", "shares_se")

    def _chart(self) -> Plot:
        title = f"simulated capacity {self.capacity:.3g} ± {self.capacity_se:.2g}"
        return line_chart(title, "dimensions", "separable share", self.dimensions, self.shares, self.shares_se)


def simulated_capacity(
    points: Any,
    labels: Any = None,
    *,
    bias: bool = False,
    n_trials: int = 100,
    dichotomies: Any = "random",
    center: str | None = None,
    seed: int = 0,
) -> SimulatedCapacity:
    """Capacity P / n* of labelled points by simulation: half of the dichotomies are separable in n* random dimensions.

    Args:
        points, labels: as for `capacity`.
        bias: whether the hyperplanes may miss the origin.
        n_trials: pairs of a random projection and a dichotomy.
        dichotomies: "random", "one-vs-rest", "balanced", or an (m, P) array of +-1 whose rows alternate.
        center: None or "global" (minus the mean of all points; makes no difference with a bias).

    Returns:
        `SimulatedCapacity`. Projections are drawn in the principal axes of the points, so that it does not depend on
        rotation, scale or order; equal seeds give common random numbers to layers and models.

    Raises BadInput for points, labels or options that do not fit, or if every point is at the origin.

    >>> found = simulated_capacity(torch.eye(12), torch.arange(12))       # independent points: 2
    >>> abs(found.capacity - 2) < 4 * found.capacity_se
    True
    """
    manifolds = as_manifolds(points, labels, center=center).without_copies().rescaled()
    y, kind = _dichotomies(dichotomies, n_trials, manifolds.n_manifolds, seed)
    blurred = blur_note(manifolds)
    # A bias moves the points to their mean.
    manifolds, far = (manifolds, None) if bias else brought_near(manifolds)
    x, owner, far = _principal(manifolds, bias, far)
    rank = x.shape[1]
    whole, decided = _in_whole_space(x, owner, y.to(x.device), bias)
    rows, owns, signs = x.cpu().numpy(), owner.cpu().numpy(), y.numpy()
    critical = np.full(len(y), math.nan)
    critical[decided & ~whole] = math.inf
    guess = rank // 2
    for trial in np.flatnonzero(decided & whole):
        noise = torch.randn(rank, rank, generator=stream(seed, "simulated capacity", trial), dtype=WORKING).numpy()
        critical[trial] = _critical(rows, signs[trial][owns], noise, guess, bias, far)
        known = critical[np.isfinite(critical)]
        guess = int(np.median(known)) if len(known) else guess
    found = _summary(torch.as_tensor(critical), manifolds.n_manifolds, rank, bias=bias, dichotomies=kind, center=center)
    return replace(found, notes=(*found.notes, blurred)) if blurred else found


def _dichotomies(dichotomies: Any, n_trials: int, n_manifolds: int, seed: int) -> tuple[Tensor, str]:
    if int(n_trials) != n_trials or n_trials < 2:
        raise BadInput(f"n_trials={n_trials}: give a whole number of at least 2 (100 is usual)")
    y, _ = labels_for(dichotomies, int(n_trials), n_manifolds, seed)
    return y.cpu(), dichotomies if isinstance(dichotomies, str) else "given"


def _principal(manifolds: Manifolds, bias: bool, far: Far | None) -> tuple[Tensor, Tensor, Far | None]:
    """The points in coordinates of their span that the points alone define: principal axes, signed by skewness."""
    x, owner, rounding = manifolds.x, manifolds.owner, manifolds.rounding
    if bias:
        longest = torch.linalg.vector_norm(x - x.mean(0), dim=1).max().clamp_min(torch.finfo(WORKING).tiny)
        x, share = lifted(x, rounding)[:, :-1], (rounding / longest).clamp_max(1.0)
    else:
        lengths = torch.linalg.vector_norm(x, dim=1)
        share = (rounding / lengths.clamp_min(torch.finfo(WORKING).tiny))[x.abs().amax(1) > 0].clamp_max(1.0)
        x, owner = unit_points(x, owner)
        if not len(x):
            raise BadInput("every point is at the origin: there is nothing to separate without a bias")
    left, size, right = torch.linalg.svd(x, full_matrices=False)
    kept = size > max(spread_of_rounding(share, x.shape[1]), of_solver(size, max(x.shape)))
    left, size = left[:, kept], size[kept]
    turn = torch.where(left.pow(3).sum(0) < 0, -1.0, 1.0)
    if far is not None:
        far = replace(far, axis=turn * (right[kept] @ far.axis))
    return left * size * turn, owner, far


def _in_whole_space(x: Tensor, owner: Tensor, y: Tensor, bias: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which dichotomies are separable without a projection, and which of these answers are certified."""
    if x.shape[1] + bias == len(x):  # (affinely) independent points: every labelling is separable
        return np.ones(len(y), dtype=bool), np.ones(len(y), dtype=bool)
    distinct, which = torch.unique(y * y[:, :1], dim=0, return_inverse=True)
    x, bias = (x, bias) if x.shape[1] else (x.new_ones(len(x), 1), False)  # all points are equal: a constant
    found = separability(x, owner, distinct, bias)
    return found.separable[which].cpu().numpy(), found.decided[which].cpu().numpy()


def _projected(rows: np.ndarray, noise: np.ndarray, far: Far | None) -> np.ndarray:
    """Points along the columns of the noise; of points that are far, stretched as the nearer ones were.

    The direction that the axis is projected on keeps its length, so that no labels change their separability.
    """
    z = rows @ noise
    if far is None:
        return z
    axis = far.axis.cpu().numpy()
    along, shadow = rows @ axis, axis @ noise
    length = np.linalg.norm(shadow)
    z -= np.outer(along, shadow)
    return z + np.outer(along * length + (far.eta - 1) * (z @ (shadow / length)), shadow / length)


def _critical(
    rows: np.ndarray, sign: np.ndarray, noise: np.ndarray, guess: int, bias: bool, far: Far | None = None
) -> float:
    """Fewest columns of `noise` whose projection is separable, given that all of them are; NaN if undecided."""
    low, high, step = -1 if bias else 0, noise.shape[1], 1
    probe = min(max(guess, low + 1), high - 1)
    while high - low > 1:
        z = _projected(rows, noise[:, :probe], far)
        if bias:  # the longest of the points has length 1, and about sqrt(n) after projection
            z = np.column_stack([z, np.full(len(z), math.sqrt(max(probe, 1)))])
        answer = separates(z * (sign / np.linalg.norm(z, axis=1))[:, None])
        if answer is None:
            return math.nan
        low, high = (low, probe) if answer else (probe, high)
        # Away from the guess by steps that double, until the answer is bracketed; then by halves.
        outward = probe - step if answer else probe + step
        step *= 2
        probe = outward if low < outward < high and step < high - low else (low + high) // 2
    return float(high)


def _summary(critical: Tensor, n_manifolds: int, rank: int, **asked: Any) -> SimulatedCapacity:
    known = critical[~critical.isnan()]
    dimensions = torch.arange(rank + 1)
    if not len(known):
        raise ArithmeticError(
            f"none of {len(critical)} dichotomies could be decided: remove nearly dependent units, "
            "or add noise of a size that means nothing"
        )
    shares = (known[:, None] <= dimensions).to(WORKING).mean(0)
    at, share = [-1.0, *dimensions.tolist()], [0.0, *shares.tolist()]
    never = float(known.isinf().to(WORKING).mean())
    n_half = crossing(at, share, 0.5)
    value, error = capacity_at_half(at, share, n_manifolds, 0.5 / math.sqrt(len(known)))
    notes = []
    if len(known) < len(critical):
        notes.append(f"{len(critical) - len(known)} of {len(critical)} trials not decided, left out")
    if math.isinf(n_half):
        notes.append(
            f"{never:.0%} of the dichotomies are not separable in the whole space of {rank} dimensions: "
            + (f"the capacity is at most P / rank = {n_manifolds / rank:.3g}; " if rank else "")
            + "use fewer samples or more units"
        )
    elif n_half <= 0:
        notes.append("the bias alone separates half of the dichotomies: use dichotomies='balanced', or more classes")
    return SimulatedCapacity(
        capacity=value, capacity_se=error, n_half=n_half, critical=critical, dimensions=dimensions, shares=shares,
        shares_se=(shares * (1 - shares) / len(known)).sqrt(), frac_nonseparable=never,
        n_undecided=len(critical) - len(known), n_trials=len(critical), n_manifolds=n_manifolds, rank=rank,
        notes=tuple(notes), **asked,
    )  # fmt: skip
