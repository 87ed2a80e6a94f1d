"""Mean canonical correlation of the leading principal components of two layers."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Raghu et al. 2017, section 2.1",
    bounds=(0, 1),
    direction="higher = more alike",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=3,
    by_default=False,
)
def svcca(a: Representation, b: Representation, *, variance: float = 0.99) -> Estimate:
    """Mean canonical correlation of the principal components that hold most of each layer's variance.

    variance: the share of each layer's variance that its components hold.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(svcca(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    value = geometry.svcca(a, b, variance=variance)
    stderr = geometry.group_jackknife(lambda rows: geometry.svcca(a.take(rows), b.take(rows), variance=variance), a.n)
    return Estimate(value, stderr)
