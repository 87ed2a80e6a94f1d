"""Whether two layers agree on which samples are near each other."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Huh et al. 2024 (platonic-representation study), appendix A",
    bounds=(0, 1),
    unit="share of neighbours",
    direction="higher = more similar; k / (n - 1) by chance",
    invariant_to={"rotation", "scale", "sample order", "unit order", "duplication"},
    min_samples=11,
    by_default=False,
)
def mutual_knn(a: Representation, b: Representation, *, k: int = 10, metric: str = "cosine") -> Estimate:
    """Mean share of every sample's k nearest neighbours in one layer that are so in the other (mutual k-NN alignment).

    Samples that are copies of others in both layers are left out first, which the note says.

    k: neighbours of a sample. metric: "cosine" (not centred) or "euclidean".

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> mutual_knn(a, a.with_(x=3 * a.x)).value
    1.0
    """
    return geometry.mutual_knn(a, b, k=k, metric=metric)


@measure(
    source="Klabunde et al. 2025 (Similarity of Neural Network Models), section 4.4",
    bounds=(0, 1),
    unit="share of neighbours",
    direction="higher = more similar; about k / (2n - k) by chance",
    invariant_to={"rotation", "scale", "sample order", "unit order", "duplication"},
    min_samples=11,
    by_default=False,
)
def neighbour_jaccard(a: Representation, b: Representation, *, k: int = 10, metric: str = "cosine") -> Estimate:
    """Mean Jaccard index of every sample's k nearest neighbours in one layer and in the other.

    Samples that are copies of others in both layers are left out first, which the note says.

    k: neighbours of a sample. metric: "cosine" (not centred) or "euclidean".

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> neighbour_jaccard(a, a.with_(x=3 * a.x)).value
    1.0
    """
    return geometry.neighbour_jaccard(a, b, k=k, metric=metric)
