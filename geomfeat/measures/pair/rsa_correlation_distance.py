"""Similarity of two layers' dissimilarity matrices, of correlation distances."""

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
        "whitened_cosine": Quantity((0, 1), "", ALIKE),
    },
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
