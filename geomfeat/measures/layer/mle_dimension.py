"""Intrinsic dimension of a layer by the likelihood of neighbour distances."""

from __future__ import annotations

from math import inf

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Levina and Bickel 2004 (NIPS 17), averaged as MacKay and Ghahramani 2005",
    bounds=(0, inf),
    unit="dimensions",
    direction="higher = more degrees of freedom at the scale of k neighbours; low by more the higher it is",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=21,
    by_default=False,
)
def mle_dimension(rep: Representation, *, k: int = 20) -> Estimate:
    """Dimension of the manifold near each sample, from the distances to its k neighbours.

    Less noise than TwoNN, at a larger scale. Copies of a sample are left out and counted in the note.

    >>> import torch
    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    >>> 1.8 < mle_dimension(Representation(x)).value < 2.2
    True
    """
    found = geometry.mle_dimension(rep, k)
    return Estimate(found.value, found.stderr, note=found.note)
