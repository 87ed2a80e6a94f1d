"""Similarity of two layers' dissimilarity matrices, of squared Euclidean distances."""

from __future__ import annotations

from geomfeat.geometry.rsa import rsa_estimates
from geomfeat.registry import Quantity, measure
from geomfeat.types import Estimate, Representation

ALIKE = "higher = more alike geometry"


@measure(
    source="Kriegeskorte et al. 2008; comparators: Nili et al. 2014, Diedrichsen et al. 2021, Schuett et al. 2023",
    quantities={
        "cosine": Quantity((0, 1), "", ALIKE),
        "correlation": Quantity((-1, 1), "", ALIKE),
        "spearman": Quantity((-1, 1), "", ALIKE),
        "rho_a": Quantity((-1, 1), "", ALIKE),
        "kendall_tau_a": Quantity((-1, 1), "", ALIKE),
        "whitened_cosine": Quantity((0, 1), "", "higher = more alike geometry; equal to cka_linear_biased"),
    },
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
