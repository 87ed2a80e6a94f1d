"""Mean canonical correlation of two layers."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Raghu et al. 2017, section 2.1; Kornblith et al. 2019, table 1 (mean CCA correlation)",
    bounds=(0, 1),
    direction="higher = more alike; near 1 for any two layers with nearly as many units as samples",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=3,
    by_default=False,
)
def cca_mean(a: Representation, b: Representation) -> Estimate:
    """Mean over all canonical correlations of two layers, small directions counting as much as large ones.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(cca_mean(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    value = geometry.cca_mean(a, b)
    stderr = geometry.group_jackknife(lambda rows: geometry.cca_mean(a.take(rows), b.take(rows)), a.n)
    trivial = geometry.canonical_correlations(a, b).n_trivial
    note = f"{trivial} of the correlations are 1 whatever the data: give more samples" if trivial else ""
    return Estimate(value, stderr, note=note)
