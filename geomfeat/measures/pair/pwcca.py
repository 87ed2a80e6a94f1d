"""Canonical correlations of two layers, weighted by what they carry of the first."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Morcos, Raghu and Bengio 2018, eq. 6",
    bounds=(0, 1),
    direction="higher = more alike; not symmetric",
    invariant_to={"scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=3,
    by_default=False,
)
def pwcca(a: Representation, b: Representation) -> Estimate:
    """Mean canonical correlation of two layers, weighted by how much of the FIRST layer's units each variate carries.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(pwcca(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    value = geometry.pwcca(a, b)
    stderr = geometry.group_jackknife(lambda rows: geometry.pwcca(a.take(rows), b.take(rows)), a.n)
    trivial = geometry.canonical_correlations(a, b).n_trivial
    note = f"{trivial} of the correlations are 1 whatever the data: give more samples" if trivial else ""
    return Estimate(value, stderr, note=note)
