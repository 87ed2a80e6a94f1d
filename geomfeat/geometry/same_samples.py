"""Two representations must be of the same samples."""

from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.types import Points, as_points


def same_samples(a: Points, b: Points) -> tuple[Float[Tensor, "n d1"], Float[Tensor, "n d2"]]:
    """Both as points; BadInput also for other numbers of rows.

    >>> [tuple(x.shape) for x in same_samples([[0.0], [1.0]], [[1.0, 2.0], [3.0, 4.0]])]
    [(2, 1), (2, 2)]
    """
    first, second = as_points(a, "a"), as_points(b, "b")
    if first.shape[0] != second.shape[0]:
        raise BadInput(
            f"a has {len(first)} samples, b has {len(second)}: compare them on the same inputs in the same order"
        )
    return first, second
