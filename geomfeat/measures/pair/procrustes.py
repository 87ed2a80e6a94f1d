"""Distances between the shapes of two layers: what the best rotation of one leaves."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Ding, Denain and Steinhardt 2021, section 3 (who give its square)",
    bounds=(0, 2**0.5),
    direction="higher = less similar; 0 up to rotation, scale and shift",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    by_default=False,
)
def procrustes_distance(a: Representation, b: Representation) -> Estimate:
    """Orthogonal Procrustes distance of two layers, each centred and of norm 1: a metric.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> procrustes_distance(a, a.with_(x=3 * a.x + 1)).value < 1e-6
    True
    """
    return geometry.procrustes_distance(a, b)


@measure(
    source="Williams et al. 2021, eq. 6, without whitening (alpha = 1)",
    bounds=(0, 1.5708),
    unit="radians",
    direction="higher = less similar; 0 up to rotation, scale and shift",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    by_default=False,
)
def shape_angle(a: Representation, b: Representation) -> Estimate:
    """Angular shape metric of two layers: the angle that the best rotation of one leaves to the other, centred.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> shape_angle(a, a.with_(x=3 * a.x + 1)).value < 1e-6
    True
    """
    return geometry.shape_angle(a, b)


@measure(
    source="Williams et al. 2021, eq. 4; Procrustes size-and-shape distance",
    bounds=(0, inf),
    unit="of the features, grows as the root of samples",
    direction="higher = less similar",
    invariant_to={"rotation", "shift", "sample order", "unit order"},
    by_default=False,
)
def shape_distance(a: Representation, b: Representation) -> Estimate:
    """Size-and-shape distance of two layers: norm of what the best rotation of one leaves of the other, centred.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(shape_distance(a, a.with_(x=a.x + 1)).value, 4)
    0.0
    """
    return geometry.shape_distance(a, b)
