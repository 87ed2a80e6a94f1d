"""Canonical correlations of two layers."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Raghu et al. 2017, section 2.1; Kornblith et al. 2019, table 1 (mean CCA correlation)",
    bounds=(0, 1),
    direction="higher = more similar; near 1 for any two layers with nearly as many units as samples",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=3,
    by_default=False,
)
def cca_mean(a: Representation, b: Representation) -> Estimate:
    """Mean over all canonical correlations of two layers, small directions counting as much as large ones.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(cca_mean(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    return geometry.cca_mean(a, b)


@measure(
    source="Kornblith et al. 2019, table 1 (R^2 CCA)",
    bounds=(0, 1),
    direction="higher = more similar; near 1 for any two layers with nearly as many units as samples",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=3,
    by_default=False,
)
def cca_mean_squared(a: Representation, b: Representation) -> Estimate:
    """Mean over all squared canonical correlations of two layers, small directions counting as much as large ones.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(cca_mean_squared(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    return geometry.cca_mean_squared(a, b)


@measure(
    source="Morcos, Raghu and Bengio 2018, eq. 6",
    bounds=(0, 1),
    direction="higher = more similar; not symmetric",
    invariant_to={"scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=3,
    by_default=False,
)
def pwcca(a: Representation, b: Representation) -> Estimate:
    """Mean canonical correlation of two layers, weighted by how much of the FIRST layer's units each variate carries.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(pwcca(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    return geometry.pwcca(a, b)


@measure(
    source="Raghu et al. 2017, section 2.1",
    bounds=(0, 1),
    direction="higher = more similar",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=3,
    by_default=False,
)
def svcca(a: Representation, b: Representation, *, variance: float = 0.99) -> Estimate:
    """Mean canonical correlation of the principal components that hold most of each layer's variance.

    variance: the share of each layer's variance that its components hold.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(svcca(a, a.with_(x=3 * a.x + 1)).value, 6)
    1.0
    """
    return geometry.svcca(a, b, variance=variance)
