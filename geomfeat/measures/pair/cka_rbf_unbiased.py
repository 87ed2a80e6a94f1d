"""Similarity of two layers by a Gaussian kernel, unbiased."""

from __future__ import annotations

from geomfeat.geometry.similarity import cka_over_samples
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Kornblith et al. 2019, section 3, with the HSIC of Song et al. 2012, eq. 5",
    bounds=(-1, 1),
    direction="higher = more alike; 0 for independent features",
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
    return cka_over_samples(a, b, kernel="rbf", estimator="unbiased", bandwidth=bandwidth)
