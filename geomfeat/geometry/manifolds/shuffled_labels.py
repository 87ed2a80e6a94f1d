"""The control for the geometry of classes: the same points and draws with the labels shuffled over the points."""

from dataclasses import replace
from typing import Any

import torch

from geomfeat.geometry.manifolds._capacity import capacity
from geomfeat.geometry.manifolds.point_clouds import as_manifolds
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.numerics import stream


def shuffled_control(points: Any, labels: Any = None, *, seed: int = 0, **options: Any) -> Capacity:
    """Capacity and geometry after the labels were permuted over the points (sizes of the classes kept).

    Takes what `capacity` takes. With the same seed it uses the same t and y, so that what differs from `capacity` of
    the true labels is due to the classes. Copies of a point in its class are one point, as in `capacity`: shuffled
    apart, they would put the same point into several classes, which nothing separates. Alignments of the control are
    the floor that this point cloud gives to classes that mean nothing. Errors are over the draws alone: other labels
    would give other classes of the same points.

    >>> points = torch.eye(12, dtype=torch.float64).reshape(4, 3, 12)     # every class of 3 orthonormal points: 2/3
    >>> abs(shuffled_control(points, n_draws=400).capacity - 2 / 3) < 0.1
    True
    """
    known = {name: options.pop(name) for name in ("center", "weights", "device") if name in options}
    manifolds = as_manifolds(points, labels, **known).without_copies()
    order = torch.randperm(len(manifolds.x), generator=stream(seed, "capacity", "shuffle")).to(manifolds.x.device)
    options = {"resample": None} | options
    found = capacity(replace(manifolds, owner=manifolds.owner[order]), seed=seed, **options)
    return replace(found, center=known.get("center"))
