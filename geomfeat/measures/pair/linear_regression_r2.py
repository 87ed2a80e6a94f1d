"""How much of the second layer least squares on the first explains, in sample."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Kornblith et al. 2019, table 1 (linear regression), from the first layer to the second",
    bounds=(0, 1),
    unit="share of variance",
    direction="higher = b follows from a; units / (samples - 1) by chance",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=3,
    by_default=False,
)
def linear_regression_r2(a: Representation, b: Representation) -> Estimate:
    """Share of the second layer's variance that a linear map of the first explains on the same samples (a to b).

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(linear_regression_r2(a, a.with_(x=a.x[:, :2] + 1)).value, 6)
    1.0
    """
    value = geometry.linear_regression_r2(a, b)
    stderr = geometry.group_jackknife(lambda rows: geometry.linear_regression_r2(a.take(rows), b.take(rows)), a.n)
    return Estimate(value, stderr)
