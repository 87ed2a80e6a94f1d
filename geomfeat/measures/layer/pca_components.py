"""How many principal components hold most of a layer's variance."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import Quantity, measure
from geomfeat.types import Estimate, Representation

PERCENT = (80, 90, 95, 99)


@measure(
    source="Jolliffe 2002 (Principal Component Analysis), section 6.1.1",
    quantities={
        f"percent_{p}": Quantity((1, inf), "components", f"higher = more directions needed for {p} % of the variance")
        for p in PERCENT
    },
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    by_default=False,
)
def pca_components(rep: Representation) -> dict[str, Estimate]:
    """Fewest principal components that hold 80, 90, 95 and 99 % of the variance: low where samples are few.

    >>> import torch
    >>> x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> [int(found.value) for found in pca_components(Representation(x)).values()]
    [1, 2, 2, 2]
    """
    spread = geometry.spread_of(rep)
    counts = [geometry.components_for_variance(spread, p / 100) for p in PERCENT]
    return {f"percent_{p}": Estimate(count) for p, count in zip(PERCENT, counts, strict=True)}
