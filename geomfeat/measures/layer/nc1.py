"""How far the classes of a layer have collapsed to their means."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Papyan, Han and Donoho 2020 (PNAS 117, 24652), NC1",
    bounds=(0, inf),
    direction="lower = classes closer to their means; 0 at full collapse",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    needs={"labels"},
    min_samples=3,
)
def nc1(rep: Representation) -> Estimate:
    """Scatter within classes against scatter between them, tr(S_w S_b^+) / C, classes with equal weight.

    >>> import torch
    >>> x = torch.tensor([[1.0], [3.0], [-1.0], [-3.0]])                # S_w = 1, S_b = 4
    >>> round(nc1(Representation(x, torch.tensor([0, 0, 1, 1]))).value, 9)
    0.125
    """
    return geometry.nc1(rep)
