"""Centred kernel alignment of two layers."""

from __future__ import annotations

from geomfeat.geometry.similarity import cka
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Kornblith et al. 2019, eq. 4",
    bounds=(0, 1),
    direction="higher = more similar; near 1 for any two layers with more units than samples",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
)
def cka_linear_biased(a: Representation, b: Representation) -> Estimate:
    """Linear centred kernel alignment of two layers, with the biased HSIC of the original paper.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(cka_linear_biased(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    return cka(a, b, estimator="biased")


@measure(
    source="Kornblith et al. 2019, eq. 4, with the HSIC of Song et al. 2012, eq. 5",
    bounds=(-1, 1),
    direction="higher = more similar; 0 for independent features",
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
    return cka(a, b, estimator="unbiased")


@measure(
    source="Kornblith et al. 2019, section 3, with the HSIC of Song et al. 2012, eq. 5",
    bounds=(-1, 1),
    direction="higher = more similar; 0 for independent features",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order"},
    min_samples=4,
    by_default=False,
)
def cka_rbf_unbiased(a: Representation, b: Representation, *, bandwidth: float = 0.5) -> Estimate:
    """Centred alignment of Gaussian kernels of two layers, which sees local geometry too, with unbiased HSIC.

    bandwidth: width of the kernels over the median distance of each layer.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(cka_rbf_unbiased(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    return cka(a, b, kernel="rbf", estimator="unbiased", bandwidth=bandwidth)
