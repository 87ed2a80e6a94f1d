"""Whether two representations agree on which samples are near each other: overlap of nearest neighbours.

By chance two sets of k of the n - 1 others share k / (n - 1) of them. Samples that are copies of others in both
representations are one sample: they would be each other's nearest neighbours whatever the representations. Those that
are equally near in one alone come in any order.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension._nearest_neighbours import nearest_neighbours
from geomfeat.geometry.dimension.eigenspectrum import NoVariance, group_jackknife
from geomfeat.geometry.similarity._validation import same_samples
from geomfeat.numerics import WORKING
from geomfeat.precision import Spread
from geomfeat.statistics.group_errors import errors_over_groups
from geomfeat.statistics.repeated_samples import without_copies
from geomfeat.types import Estimate, Points, Representation

METRICS = ("cosine", "euclidean")


def mutual_knn(a: Points, b: Points, *, k: int = 10, metric: str = "cosine") -> Estimate:
    """Mean share of a sample's k nearest neighbours in a that are so in b too, in 0..1, with its error.

    (Huh et al. 2024, the platonic-representation study, section A: k = 10 by inner products of unit vectors.)

    Args:
        metric: "cosine" (of the features as they are, not centred) or "euclidean".

    Samples that are copies of others in both are left out first, which the note says. Raises BadInput for other numbers
    of samples, k not in 1..n - 1 of the different ones, another metric, and samples that are zero everywhere, which
    have no direction; NoVariance where all k neighbours of every sample are copies of it.

    >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> float(mutual_knn(x, 2 * x, k=5))
    1.0
    """
    return _overlap(a, b, k, metric, lambda shared: shared / k, lambda n: f"by chance: {k / (n - 1):.3f}")


def neighbour_jaccard(a: Points, b: Points, *, k: int = 10, metric: str = "cosine") -> Estimate:
    """Mean Jaccard index |A & B| / |A | B| of every sample's k nearest neighbours in a and in b, with its error.

    In 0..1 (Klabunde et al. 2025, section 4.4). Arguments and errors as in `mutual_knn`.

    >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> float(neighbour_jaccard(x, 2 * x, k=5))
    1.0
    """
    return _overlap(a, b, k, metric, lambda shared: shared / (2 * k - shared), lambda _: "")


def _overlap(
    a: Points, b: Points, k: int, metric: str, of: Callable[[Tensor], Tensor], said_of: Callable[[int], str]
) -> Estimate:
    """Mean of `of`(shared neighbours) over the different samples, with `said_of`(how many they are) in the note."""

    def over_samples(a: Representation, b: Representation) -> Estimate:
        [first, second], copies = without_copies(a, b)
        _require_different(first.n, a.n, k)

        def mean(rows: Tensor | slice) -> float:
            left, right = (_nearest(layer.take(rows), k, metric) for layer in (first, second))
            return float(of((left[:, :, None] == right[:, None, :]).any(2).sum(1).to(WORKING)).mean())

        value, error = mean(slice(None)), group_jackknife(mean, first.n)
        return Estimate(value, error, note="; ".join(filter(None, (said_of(first.n), copies))))

    return errors_over_groups(over_samples, same_samples(a, b), {}, k + 1)


def _nearest(layer: Representation, k: int, metric: str) -> Tensor:
    """Indices (n, k) of every sample's k nearest others."""
    if metric not in METRICS:
        raise BadInput(f"metric={metric!r}: use one of {', '.join(map(repr, METRICS))}")
    rows = layer.x if metric == "euclidean" else _directions(layer.x)
    spread = Spread.of(rows, layer.precision)
    found = nearest_neighbours(spread.x, k)
    if not bool(found.distance.amax() > spread.of_point):
        raise NoVariance(
            f"the {k} nearest neighbours of every sample are copies of it (a constant layer?), so they mean nothing: "
            "leave the layer out, or drop the copies"
        )
    return found.index


def _directions(x: Tensor) -> Tensor:
    """Rows of unit length: the larger their cosine, the nearer they are."""
    rows = x.to(WORKING)
    rows = rows / rows.abs().amax(1, keepdim=True)
    zero = int((~torch.isfinite(rows).all(1)).sum())
    if zero:
        raise BadInput(f"{zero} samples are zero in all features and have no direction: use metric='euclidean'")
    return rows / rows.norm(dim=1, keepdim=True)


def _require_different(different: int, n: int, k: int) -> None:
    if different == 1 < n:
        raise NoVariance(f"all {n} samples are copies of each other in both, so they have no neighbours: give others")
    if different <= k < n:
        raise BadInput(
            f"{different} different of {n} samples: {k} neighbours need at least {k + 1}, give more samples or fewer "
            "neighbours"
        )
