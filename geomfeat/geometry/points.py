"""Points as users have them, Representations and arrays of any kind, checked at the door of every function."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, require_finite
from geomfeat.types import Representation

# (n, d): rows are samples.
Points = Representation | Tensor | np.ndarray | Sequence[Any]


def as_points(x: Points, name: str = "x") -> Float[Tensor, "n d"]:
    """Points as a tensor of floating-point numbers, without a copy where they are one.

    Precisions below 32 bits are widened, whole numbers become float64. Raises BadInput for what is not numeric, other
    shapes than (samples, features) with at least one of each, NaN and infinite values.

    >>> as_points([[1, 2], [3, 4]]).shape
    torch.Size([2, 2])
    """
    points = as_tensor(x.x if isinstance(x, Representation) else x, name)
    if points.ndim != 2 or 0 in points.shape:
        raise BadInput(
            f"{name} must be (samples, features) with at least one of each, got shape {tuple(points.shape)}"
            + (": for a single feature pass x[:, None]" if points.ndim == 1 and len(points) else "")
        )
    return require_finite(points if points.is_floating_point() else points.to(WORKING), name)


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
