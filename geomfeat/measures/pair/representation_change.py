"""How far features moved, relative to their size."""

from __future__ import annotations

from math import inf

from geomfeat.geometry.similarity import relative_change
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Chizat, Oyallon and Bach 2019, section 1; Karkada 2024, section 3",
    bounds=(0, inf),
    direction="higher = features moved more",
    invariant_to={"rotation", "scale", "sample order", "unit order", "duplication"},
    needs={"init"},
)
def representation_change(a: Representation, b: Representation) -> Estimate:
    """|b - a| / |a| (Frobenius) of the same layer before (a) and after (b): 0 for unmoved features.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(representation_change(a, a.with_(x=1.1 * a.x)).value, 6)
    0.1
    """
    return relative_change(b.x, a.x)
