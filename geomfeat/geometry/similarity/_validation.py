"""What similarities of two representations share: the same samples, and errors over them."""

from collections.abc import Callable
from dataclasses import replace

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import group_jackknife
from geomfeat.statistics.group_errors import errors_over_groups
from geomfeat.types import Estimate, Points, Representation, as_layer

# Of two layers.
Similarity = Callable[[Representation, Representation], Estimate]


def same_samples(a: Points, b: Points) -> tuple[Representation, Representation]:
    """Both as layers; BadInput also for other numbers of rows.

    >>> [tuple(layer.x.shape) for layer in same_samples([[0.0], [1.0]], [[1.0, 2.0], [3.0, 4.0]])]
    [(2, 1), (2, 2)]
    """
    first, second = as_layer(a, "a"), as_layer(b, "b")
    if first.n != second.n:
        raise BadInput(f"a has {first.n} samples, b has {second.n}: compare them on the same inputs in the same order")
    return first, second


def with_error(similarity: Similarity, a: Points, b: Points, least: int = 2) -> Estimate:
    """similarity(a, b) of the same samples with its error: over their groups where there are any, else over samples.

    least: samples that it needs. Errors over samples are jackknifes that leave a tenth of them out.

    >>> found = with_error(lambda a, b: Estimate(float((a.x * b.x).mean())), [[0.0], [2.0]], [[1.0], [4.0]])
    >>> found.value, found.stderr
    (4.0, 4.0)
    """

    def over_samples(a: Representation, b: Representation) -> Estimate:
        error = group_jackknife(lambda rows: similarity(a.take(rows), b.take(rows)), a.n)
        return replace(similarity(a, b), stderr=error)

    return errors_over_groups(over_samples, same_samples(a, b), {}, least)
