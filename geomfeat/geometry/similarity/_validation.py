"""Two representations must be of the same samples."""

from geomfeat.errors import BadInput
from geomfeat.types import Points, Representation, as_layer


def same_samples(a: Points, b: Points) -> tuple[Representation, Representation]:
    """Both as layers; BadInput also for other numbers of rows.

    >>> [tuple(layer.x.shape) for layer in same_samples([[0.0], [1.0]], [[1.0, 2.0], [3.0, 4.0]])]
    [(2, 1), (2, 2)]
    """
    first, second = as_layer(a, "a"), as_layer(b, "b")
    if first.n != second.n:
        raise BadInput(f"a has {first.n} samples, b has {second.n}: compare them on the same inputs in the same order")
    return first, second
