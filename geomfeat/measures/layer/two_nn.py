"""Intrinsic dimension of a layer from nearest neighbours."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Facco et al. 2017 (Sci. Rep. 7, 12140), eq. 3 (likelihood) and eq. 5 (linear fit)",
    bounds=(0, inf),
    unit="dimensions",
    direction="higher = more degrees of freedom at the scale of neighbours; low by a few % above 10 dimensions",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=10,
)
def two_nn(rep: Representation, *, method: str = "mle") -> Estimate:
    """Dimension of the manifold near each sample, from the ratio of the two nearest distances.

    method: "mle" (likelihood) or "linear" (the published fit without the top 10 % of ratios). Copies of a sample are
    left out and counted in the note.

    >>> import torch
    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    >>> 1.8 < two_nn(Representation(x)).value < 2.2
    True
    """
    found = geometry.two_nn(rep, method=method)
    return Estimate(found.value, found.stderr, note=found.note)
