"""Whether two layers agree on which samples are near each other."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.statistics.repeated_samples import without_copies
from geomfeat.types import Estimate, Representation


@measure(
    source="Huh et al. 2024 (platonic-representation study), appendix A",
    bounds=(0, 1),
    unit="share of neighbours",
    direction="higher = more alike; k / (n - 1) by chance",
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
    [a, b], said = without_copies(a, b)
    value = float(geometry.mutual_knn(a, b, k=k, metric=metric).mean())
    stderr = geometry.group_jackknife(
        lambda rows: float(geometry.mutual_knn(a.take(rows), b.take(rows), k=k, metric=metric).mean()), a.n
    )
    return Estimate(value, stderr, note="; ".join(filter(None, [f"by chance: {k / (a.n - 1):.3f}", said])))
