"""Whether two layers agree on which samples are near each other, by the Jaccard index."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.statistics.repeated_samples import without_copies
from geomfeat.types import Estimate, Representation


@measure(
    source="Klabunde et al. 2025 (Similarity of Neural Network Models), section 4.4",
    bounds=(0, 1),
    unit="share of neighbours",
    direction="higher = more alike; about k / (2n - k) by chance",
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
    [a, b], said = without_copies(a, b)
    value = float(geometry.neighbour_jaccard(a, b, k=k, metric=metric).mean())
    stderr = geometry.group_jackknife(
        lambda rows: float(geometry.neighbour_jaccard(a.take(rows), b.take(rows), k=k, metric=metric).mean()), a.n
    )
    return Estimate(value, stderr, note=said)
