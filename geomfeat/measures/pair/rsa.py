"""Similarity of the dissimilarity matrices of two layers."""

from __future__ import annotations

from geomfeat.geometry.rsa import rsa_estimates
from geomfeat.registry import Quantity, measure
from geomfeat.types import Estimate, Representation

SOURCE = "Kriegeskorte et al. 2008; comparators: Nili et al. 2014, Diedrichsen et al. 2021, Schuett et al. 2023"
COMPARATORS = {
    "cosine": (0, 1), "correlation": (-1, 1), "spearman": (-1, 1), "rho_a": (-1, 1), "kendall_tau_a": (-1, 1),
    "whitened_cosine": (0, 1),
}  # fmt: skip
QUANTITIES = {name: Quantity(bounds, "", "higher = more similar geometry") for name, bounds in COMPARATORS.items()}


@measure(
    source=SOURCE,
    quantities=QUANTITIES,
    invariant_to={"scale", "sample order", "unit order"},
    min_samples=3,
    by_default=False,
)
def rsa_correlation_distance(a: Representation, b: Representation) -> dict[str, Estimate]:
    """Similarity of one minus the correlation between samples in two layers, by six comparators.

    The usual choice with brain data; every sample needs units that differ. Each quantity is a comparator of
    `geomfeat.geometry.rsa.compare_rdms`; its error is the jackknife's over samples.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(rsa_correlation_distance(a, a.with_(x=3 * a.x + 1))["rho_a"].value, 6)
    1.0
    """
    return rsa_estimates(a, b, "correlation")


@measure(
    source=SOURCE,
    quantities=QUANTITIES
    | {"whitened_cosine": Quantity((0, 1), "", "higher = more similar geometry; equal to cka_linear_biased")},
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order"},
    min_samples=3,
    by_default=False,
)
def rsa_squared_euclidean(a: Representation, b: Representation) -> dict[str, Estimate]:
    """Similarity of the squared Euclidean distances between samples in two layers, by six comparators.

    Each quantity is a comparator of `geomfeat.geometry.rsa.compare_rdms`; its error is the jackknife's over samples.

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(rsa_squared_euclidean(a, a.with_(x=3 * a.x + 1))["kendall_tau_a"].value, 6)
    1.0
    """
    return rsa_estimates(a, b, "squared_euclidean")
