"""Similarity of two layers, as most papers report it."""

from __future__ import annotations

from geomfeat.geometry.similarity import cka_over_samples
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Kornblith et al. 2019, eq. 4",
    bounds=(0, 1),
    direction="higher = more alike; near 1 for any two layers with more units than samples",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
)
def cka_linear_biased(a: Representation, b: Representation) -> Estimate:
    """Linear centred kernel alignment of two layers, with the biased HSIC of the original paper.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(cka_linear_biased(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    return cka_over_samples(a, b, estimator="biased")
