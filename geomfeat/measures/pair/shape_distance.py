"""How far two layers are apart after the best rotation, in their own unit."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Williams et al. 2021, eq. 4; Procrustes size-and-shape distance",
    bounds=(0, inf),
    unit="of the features, grows as the root of samples",
    direction="higher = less alike",
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
    value = geometry.shape_distance(a, b)
    stderr = geometry.group_jackknife(lambda rows: geometry.shape_distance(a.take(rows), b.take(rows)), a.n)
    return Estimate(value, stderr)
