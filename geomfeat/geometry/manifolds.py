"""Point clouds, one per class, in the forms people have them: one list of points and an owner for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, require_finite, resolve_device
from geomfeat.types import Representation

# A point that centring brings below this share of its own length is rounding, and means the centre itself.
CENTRE_ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class Manifolds:
    """x: (k, N) points in float64. owner: (k,) manifold of each, 0..P-1. sizes: points of each manifold."""

    x: Tensor
    owner: Tensor
    sizes: tuple[int, ...]

    @property
    def n_manifolds(self) -> int:
        """P."""
        return len(self.sizes)


def as_manifolds(
    points: Any, labels: Any = None, *, center: str | None = None, device: str | torch.device | None = None
) -> Manifolds:
    """The points of P classes.

    Args:
        points: a Representation, an (n, N) array with labels, a (P, M, N) array, or a list of (M_i, N) arrays.
        labels: (n,) classes, numbers or strings; manifolds are numbered in sorted order of the classes.
        center: None, or "global" to subtract the mean of all points.

    Raises BadInput for other shapes, missing or misplaced labels, NaN, or unknown `center`.

    >>> as_manifolds(torch.ones(3, 4, 2)).sizes
    (4, 4, 4)
    """
    if center not in (None, "global"):
        raise BadInput(f"center={center!r}: use None (as the points are) or 'global' (minus the mean of all points)")
    if isinstance(points, Representation):
        labels = points.labels if labels is None else labels
        if labels is None:
            raise BadInput(
                f"layer {points.layer!r} was captured without labels: pass labels= here or to extract(), "
                "one class per sample"
            )
        points = points.x
    x, owner = _stacked(points) if labels is None else _by_label(points, labels)
    where = resolve_device(device, x)
    x = require_finite(x.to(where, WORKING), "points")
    if center == "global":
        moved = x - x.mean(0, keepdim=True)
        rounding = moved.abs().amax(1) <= CENTRE_ROUNDING * x.abs().amax(1)
        x = torch.where(rounding[:, None], 0.0, moved)
    owner = owner.to(where)
    return Manifolds(x, owner, tuple(torch.bincount(owner).tolist()))


def _by_label(points: Any, labels: Any) -> tuple[Tensor, Tensor]:
    x = as_tensor(points, "points")
    names = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if x.ndim != 2 or 0 in x.shape:
        raise BadInput(f"with labels, points must be (samples, features), got shape {tuple(x.shape)}")
    if names.shape != (x.shape[0],):
        raise BadInput(f"labels have shape {names.shape}, but there are {x.shape[0]} points: give one class per point")
    _, owner = np.unique(names, return_inverse=True)
    return x, torch.as_tensor(owner)


def _stacked(points: Any) -> tuple[Tensor, Tensor]:
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
    return torch.cat([p.to(WORKING) for p in parts]), owner
