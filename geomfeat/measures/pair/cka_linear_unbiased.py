"""Similarity of two layers, unbiased."""

from __future__ import annotations

from geomfeat.geometry.similarity import cka_over_samples
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Kornblith et al. 2019, eq. 4, with the HSIC of Song et al. 2012, eq. 5",
    bounds=(-1, 1),
    direction="higher = more alike; 0 for independent features",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order"},
    min_samples=4,
)
def cka_linear_unbiased(a: Representation, b: Representation) -> Estimate:
    """Linear centred kernel alignment of two layers, with unbiased HSIC: independent wide layers read 0, not 1.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(cka_linear_unbiased(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    return cka_over_samples(a, b, estimator="unbiased")
