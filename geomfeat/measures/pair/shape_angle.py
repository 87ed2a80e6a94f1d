"""Angle between two layers after the best rotation."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Williams et al. 2021, eq. 6, without whitening (alpha = 1)",
    bounds=(0, 1.5708),
    unit="radians",
    direction="higher = less alike; 0 up to rotation, scale and shift",
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
    value = geometry.shape_angle(a, b)
    stderr = geometry.group_jackknife(lambda rows: geometry.shape_angle(a.take(rows), b.take(rows)), a.n)
    return Estimate(value, stderr)
