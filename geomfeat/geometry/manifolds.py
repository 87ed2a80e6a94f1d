"""Point clouds, one per class, in the forms people have them: one list of points and an owner for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.labels import Labels, as_labels
from geomfeat.numerics import WORKING, as_tensor, require_finite, resolve_device
from geomfeat.types import Representation

# A point that centring brings below this share of its own length is rounding, and means the centre itself.
CENTRE_ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class Manifolds:
    """x: (k, N) points in float64. owner: (k,) manifold of each, 0..P-1. sizes, classes: points and name of each."""

    x: Tensor
    owner: Tensor
    sizes: tuple[int, ...]
    classes: tuple[Any, ...]

    @property
    def n_manifolds(self) -> int:
        """P."""
        return len(self.sizes)


def as_manifolds(
    points: Any,
    labels: Any = None,
    *,
    center: str | None = None,
    weights: Any = None,
    device: str | torch.device | None = None,
) -> Manifolds:
    """The points of P classes.

    Args:
        points: a Representation, an (n, N) array with labels, a (P, M, N) array, or a list of (M_i, N) arrays.
        labels: (n,) classes, numbers or strings; manifolds are numbered in sorted order of the classes.
        center: None, or "global" to subtract the (weighted) mean of all points.
        weights: how many copies a point counts as, shaped like the points without their last axis. 0 leaves a point
            out; the others matter to the centre alone, since a cone does not change when a point is repeated.

    Raises BadInput for other shapes, missing, misplaced or NaN labels, NaN, weights below 0, or unknown `center`.

    >>> as_manifolds(torch.ones(3, 4, 2)).sizes
    (4, 4, 4)
    >>> as_manifolds(torch.ones(3, 2), ["b", "a", "b"]).classes
    ('a', 'b')
    """
    if center not in (None, "global"):
        raise BadInput(f"center={center!r}: use None (as the points are) or 'global' (minus the mean of all points)")
    if isinstance(points, Representation):
        if labels is None and points.labels is not None:
            labels = Labels(points.labels, points.classes)
        if labels is None:
            raise BadInput(
                f"layer {points.layer!r} was captured without labels: pass labels= here or to extract(), "
                "one class per sample"
            )
        points = points.x
    x, owner, classes = _stacked(points) if labels is None else _by_label(points, labels)
    where = resolve_device(device, x)
    x, owner = require_finite(x.to(where, WORKING), "points"), owner.to(where)
    counts = None if weights is None else _counts(weights, len(x)).to(where)
    if counts is not None:
        kept = counts > 0
        x, counts = x[kept], counts[kept]
        owner, classes = _still_there(owner[kept], classes, labels is not None)
    if center == "global":
        x = _centred(x, counts)
    return Manifolds(x, owner, tuple(torch.bincount(owner, minlength=len(classes)).tolist()), classes)


def _centred(x: Tensor, counts: Tensor | None) -> Tensor:
    mean = x.mean(0) if counts is None else (counts / counts.sum()) @ x
    moved = x - mean
    rounding = moved.abs().amax(1) <= CENTRE_ROUNDING * x.abs().amax(1)
    return torch.where(rounding[:, None], 0.0, moved)


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
        parts = list(x)
    shapes = [tuple(p.shape) for p in parts]
    if not parts or any(p.ndim != 2 or 0 in p.shape or p.shape[1] != parts[0].shape[-1] for p in parts):
        raise BadInput(f"each manifold must be (points, features) with the same features, got shapes {shapes[:5]}")
    owner = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([p.shape[0] for p in parts]))
    return torch.cat([p.to(WORKING) for p in parts]), owner, tuple(range(len(parts)))
