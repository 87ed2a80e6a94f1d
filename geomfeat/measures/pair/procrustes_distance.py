"""How far two layers are apart after the best rotation, sizes left out."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Ding, Denain and Steinhardt 2021, section 3 (who give its square)",
    bounds=(0, 2**0.5),
    direction="higher = less alike; 0 up to rotation, scale and shift",
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
    value = geometry.procrustes_distance(a, b)
    stderr = geometry.group_jackknife(lambda rows: geometry.procrustes_distance(a.take(rows), b.take(rows)), a.n)
    return Estimate(value, stderr)
