"""Point clouds, one per class, in the forms people have them: one list of points and an owner for each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.labels import Labels, as_groups, as_labels
from geomfeat.numerics import WORKING, as_tensor, require_finite, resolve_device
from geomfeat.precision import coarser, precision_of, unit_of
from geomfeat.statistics.distinct_points import equal_rows
from geomfeat.types import Representation

# A point that is nearer to the centre than this many roundings of its coordinates means the centre itself; the sum over
# all points is rounded as well, in float64.
CENTRE_ROUNDINGS, SUM_ROUNDINGS = 4.0, 64.0
# Squares of lengths between this and its inverse stay in the range of numbers, to the last digit.
SAFE = 1e-140


@dataclass(frozen=True, eq=False)
class Manifolds:
    """Points of P classes.

    Attributes:
        x: (k, N) points in float64. owner: (k,) manifold of each, 0..P-1. sizes, classes: points and name of each.
        rounding: (k,) length of the rounding error of each point, by the precision that the data came in and their
            lengths before any centring.
        precision: that which the data came in.
        group: (k,) number of the group (run, session, ...) that each point belongs to, -1 for several; None: no groups.
        counts: (k,) how often each point counts in the centre; None: once.
    """

    x: Tensor
    owner: Tensor
    sizes: tuple[int, ...]
    classes: tuple[Any, ...]
    rounding: Tensor
    precision: torch.dtype
    group: Tensor | None = None
    counts: Tensor | None = None

    @property
    def n_manifolds(self) -> int:
        """P."""
        return len(self.sizes)

    @property
    def unit(self) -> float:
        """The power of two at the largest entry: over it, no sum or square leaves the range of numbers."""
        return float(unit_of(self.x))

    def rescaled(self) -> "Manifolds":
        """The same points with a largest entry between 1 and 2; nothing is rounded."""
        unit = self.unit
        return replace(self, x=self.x / unit, rounding=self.rounding / unit)

    def take(self, rows: Tensor) -> "Manifolds":
        """Some of the points; every class must still have one."""
        owner = self.owner[rows]
        sizes = torch.bincount(owner, minlength=self.n_manifolds)
        group, counts = (None if v is None else v[rows] for v in (self.group, self.counts))
        return replace(
            self, x=self.x[rows], owner=owner, sizes=tuple(sizes.tolist()), rounding=self.rounding[rows], group=group,
            counts=counts,
        )  # fmt: skip

    def without_copies(self) -> "Manifolds":
        """Each point once in its class: copies change no cone, and would only share a multiplier among them.

        A point whose copies are of different groups stays when one of these is left out: it is of no group (-1).
        """
        first, same = first_of_copies(self.x, self.owner)
        if len(first) == len(self.x):
            return self
        group = self.group
        if group is not None:
            least, most = (group.scatter_reduce(0, same, group, how) for how in ("amin", "amax"))
            group = torch.where(least == most, group, -1)
        return replace(self, group=group).take(first)

    def centered(self) -> "Manifolds":
        """Minus the mean of all points, each as often as it counts."""
        x, rounding = _centred(self.x, self.counts, self.rounding)
        return replace(self, x=x, rounding=rounding)


def as_manifolds(
    points: Any,
    labels: Any = None,
    *,
    center: str | None = None,
    weights: Any = None,
    groups: Any = None,
    device: str | torch.device | None = None,
) -> Manifolds:
    """The points of P classes.

    Args:
        points: a Representation, an (n, N) array with labels, a (P, M, N) array, or a list of (M_i, N) arrays;
            `Manifolds` are taken as they are.
        labels: (n,) classes, numbers or strings; manifolds are numbered in sorted order of the classes.
        center: None, or "global" to subtract the (weighted) mean of all points.
        weights: how many copies a point counts as, shaped like the points without their last axis. 0 leaves a point
            out; the others matter to the centre alone, since a cone does not change when a point is repeated.
        groups: which run, session or block each point belongs to, numbers or strings, shaped like weights; None: those
            of the Representation, if it has any.

    Raises BadInput for other shapes, missing, misplaced or NaN labels, NaN, weights below 0, or unknown `center`.

    >>> as_manifolds(torch.ones(3, 4, 2)).sizes
    (4, 4, 4)
    >>> as_manifolds(torch.ones(3, 2), ["b", "a", "b"]).classes
    ('a', 'b')
    """
    if center not in (None, "global"):
        raise BadInput(f"center={center!r}: use None (as the points are) or 'global' (minus the mean of all points)")
    precision = None
    if isinstance(points, Representation):
        if labels is None and points.labels is not None:
            labels = Labels(points.labels, points.classes)
        if labels is None:
            raise BadInput(
                f"layer {points.layer!r} was captured without labels: pass labels= here or to extract(), "
                "one class per sample"
            )
        groups = points.groups if groups is None else groups
        precision, points = points.precision, points.x
    found = points if isinstance(points, Manifolds) else _gathered(points, labels, precision)
    where = resolve_device(device, found.x)
    x, owner, rounding = require_finite(found.x.to(where), "points"), found.owner.to(where), found.rounding.to(where)
    classes, group = found.classes, found.group if groups is None else _numbered(groups, len(x))
    group = None if group is None else group.to(where)
    counts = None if weights is None else _counts(weights, len(x)).to(where)
    if counts is not None:
        kept = counts > 0
        x, counts, rounding = x[kept], counts[kept], rounding[kept]
        group = None if group is None else group[kept]
        owner, classes = _still_there(owner[kept], classes, labels is not None)
    sizes = tuple(torch.bincount(owner, minlength=len(classes)).tolist())
    made = Manifolds(x, owner, sizes, classes, rounding, found.precision, group, counts)
    return made.centered() if center == "global" else made


def _numbered(groups: Any, n: int) -> Tensor:
    """The groups of n points as 0, 1, ...; they may be given array by array, as the points."""
    if isinstance(groups, Sequence) and not isinstance(groups, str) and groups and np.ndim(groups[0]) > 0:
        groups = [name for part in groups for name in np.asarray(part).ravel().tolist()]
    elif not isinstance(groups, Sequence) and np.ndim(groups) > 1:
        groups = groups.flatten() if isinstance(groups, Tensor) else np.asarray(groups).ravel()
    return torch.unique(as_groups(groups, n=n), return_inverse=True)[1]


def _gathered(points: Any, labels: Any, precision: torch.dtype | None) -> Manifolds:
    """The points as they were given, in a precision that is known or seen."""
    x, owner, classes = _stacked(points) if labels is None else _by_label(points, labels)
    x = x.to(WORKING)
    rounding = lengths_of(x)
    precision = precision or _coarsest(points)
    rounding *= torch.finfo(precision).eps
    sizes = tuple(torch.bincount(owner, minlength=len(classes)).tolist())
    return Manifolds(x, owner, sizes, classes, rounding, precision)


def lengths_of(x: Tensor) -> Tensor:
    """Lengths of the rows, also where their squares leave the range of numbers.

    >>> lengths_of(torch.tensor([[3e-200, 4e-200], [0.0, 2.0]], dtype=torch.float64)).tolist()
    [5e-200, 2.0]
    """
    lengths = torch.linalg.vector_norm(x, dim=1)
    if bool(((lengths > SAFE) & (lengths < 1 / SAFE)).all()):
        return lengths
    largest = x.abs().amax(1, keepdim=True).clamp_min(torch.finfo(WORKING).tiny)
    return largest[:, 0] * torch.linalg.vector_norm(x / largest, dim=1)


def _coarsest(points: Any) -> torch.dtype:
    """The precision of points; of several arrays, that with the fewest digits."""
    if isinstance(points, Tensor | np.ndarray):
        return precision_of(points)
    parts = points if isinstance(points, Sequence) else []
    return reduce(coarser, (precision_of(part) for part in parts if isinstance(part, Tensor | np.ndarray)), WORKING)


def first_of_copies(x: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the points that no earlier point of their class equals, in order; the first that each point equals.

    >>> x = torch.tensor([[1.0], [2.0], [1.0], [1.0]]).double()
    >>> [found.tolist() for found in first_of_copies(x, torch.tensor([0, 0, 0, 1]))]
    [[0, 1, 3], [0, 1, 0, 3]]
    """
    same = equal_rows(x, owner[:, None].to(x.dtype))
    return torch.nonzero(same == torch.arange(len(same), device=same.device))[:, 0], same


def _centred(x: Tensor, counts: Tensor | None, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Points minus their mean, and the rounding that is left in the difference."""
    unit = unit_of(x)
    x, rounding = x / unit, rounding / unit
    moved = x - (x.mean(0) if counts is None else (counts / counts.sum()) @ x)
    moved = torch.where(is_centre(moved, x, rounding)[:, None], 0.0, moved)
    return moved * unit, rounding * unit


def is_centre(moved: Tensor, x: Tensor, rounding: Tensor) -> Tensor:
    """Which points, after centring, are no further from the centre than their rounding before it."""
    largest = torch.linalg.vector_norm(x, dim=1).max()
    noise = CENTRE_ROUNDINGS * rounding + SUM_ROUNDINGS * torch.finfo(WORKING).eps * largest
    return torch.linalg.vector_norm(moved, dim=1) <= noise


def _counts(weights: Any, n: int) -> Tensor:
    parts = [weights] if isinstance(weights, Tensor | np.ndarray) or not _nested(weights) else weights
    out = torch.cat([as_tensor(part, "weights", WORKING).flatten() for part in parts])
    if len(out) != n:
        raise BadInput(f"weights has {len(out)} entries, but there are {n} points: give one per point")
    bad = int((~torch.isfinite(out) | (out < 0)).sum())
    if bad:
        raise BadInput(f"weights must be 0 or more, how often a point counts: {bad} of {n} are negative, NaN or inf")
    if not bool((out > 0).any()):
        raise BadInput("weights are all 0: no point is left")
    return out


def _nested(weights: Any) -> bool:
    return isinstance(weights, Sequence) and len(weights) > 0 and np.ndim(weights[0]) > 0


def _still_there(owner: Tensor, classes: tuple[Any, ...], labelled: bool) -> tuple[Tensor, tuple[Any, ...]]:
    """Owners and names after points were left out: a label that no point has any more is no class."""
    left, owner = torch.unique(owner, return_inverse=True)
    if not labelled and len(left) < len(classes):
        gone = sorted(set(range(len(classes))) - set(left.tolist()))
        raise BadInput(f"weights leave no point in manifolds {gone[:5]}: leave these manifolds out")
    return owner, tuple(classes[i] for i in left.tolist())


def _by_label(points: Any, labels: Any) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    x = as_tensor(points, "points")
    if x.ndim != 2 or 0 in x.shape:
        raise BadInput(
            f"with labels, points must be (samples, features), got shape {tuple(x.shape)}: images and maps need "
            "x.flatten(1)"
        )
    found = as_labels(labels, n=x.shape[0])
    numbers, owner = torch.unique(found.codes, return_inverse=True)
    classes = tuple(found.classes[i] for i in numbers.tolist()) if found.classes else tuple(numbers.tolist())
    return x, owner, classes


def _stacked(points: Any) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    if isinstance(points, Sequence):
        parts = [as_tensor(p, f"points[{i}]") for i, p in enumerate(points)]
    else:
        x = as_tensor(points, "points")
        if x.ndim != 3:
            raise BadInput(
                f"points of shape {tuple(x.shape)} without labels: pass labels= for (samples, features), "
                "or a (classes, points, features) array, or a list of (points, features) arrays"
            )
        if 0 not in x.shape:
            owner = torch.arange(len(x)).repeat_interleave(x.shape[1])
            return x.reshape(-1, x.shape[2]), owner, tuple(range(len(x)))
        parts = list(x)
    shapes = [tuple(p.shape) for p in parts]
    if not parts or any(p.ndim != 2 or 0 in p.shape or p.shape[1] != parts[0].shape[-1] for p in parts):
        raise BadInput(f"each manifold must be (points, features) with the same features, got shapes {shapes[:5]}")
    owner = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([p.shape[0] for p in parts]))
    return torch.cat([p.to(WORKING) for p in parts]), owner, tuple(range(len(parts)))
