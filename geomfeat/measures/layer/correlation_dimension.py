"""Correlation dimension of a layer."""

from __future__ import annotations

from math import inf, isfinite

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Grassberger and Procaccia 1983 (Physica D 9, 189), slope between two median neighbour distances",
    bounds=(0, inf),
    unit="dimensions",
    direction="higher = more degrees of freedom at the scale of k neighbours; dense regions count most",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=21,
    by_default=False,
)
def correlation_dimension(rep: Representation, *, k: tuple[int, int] = (10, 20)) -> Estimate:
    """How fast the number of pairs grows with distance, between the median distances to the 10th and 20th neighbour.

    Copies of a sample are left out and counted in the note.

    >>> import torch
    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    >>> 1.8 < correlation_dimension(Representation(x)).value < 2.2
    True
    """
    found = geometry.correlation_dimension(rep, k)
    if not isfinite(found.value):
        return Estimate.failed(
            "no pair lies within the smaller radius: use more neighbours, k=(20, 40), or more samples"
        )
    return Estimate(found.value, found.stderr if isfinite(found.stderr) else None, note=found.note)
