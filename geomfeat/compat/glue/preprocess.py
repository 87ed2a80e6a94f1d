"""What is done to manifolds before an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import stream


def downsample_manifolds(manifolds: Any, n_points: int, seed: int = 0) -> Any:
    """`n_points` points of each manifold, drawn without replacement: capacity falls with the number of points.

    Args:
        manifolds: a list or a mapping (by class) of P arrays (N, M_i), features before points, or a (P, N, M) array;
            numpy or torch.
        n_points: at most the number of points of the smallest manifold.
        seed: manifolds of equal index and size get the same points, for any other manifolds.

    Returns the same kind of thing, each manifold (N, n_points), its points in their old order.

    Raises BadInput for other shapes, or more points than a manifold has.

    >>> few = downsample_manifolds([np.zeros((3, 10)), np.zeros((3, 8))], n_points=5)
    >>> [m.shape for m in few]
    [(3, 5), (3, 5)]
    """
    if isinstance(manifolds, Mapping):
        few = downsample_manifolds(list(manifolds.values()), n_points, seed)
        return dict(zip(manifolds, few, strict=True))
    listed = isinstance(manifolds, Sequence)
    parts: list[Any] = [part if isinstance(part, Tensor) else np.asarray(part) for part in manifolds]
    shapes = [tuple(part.shape) for part in parts]
    if not parts or any(len(shape) != 2 for shape in shapes):
        raise BadInput(f"every manifold must be (features, points), got shapes {shapes[:5]}")
    fewest = min(m for _, m in shapes)
    if int(n_points) != n_points or not 1 <= n_points <= fewest:
        raise BadInput(f"n_points={n_points}: the smallest manifold has {fewest} points; give 1 to {fewest}")
    taken = [part[:, _chosen(part.shape[1], int(n_points), seed, i)] for i, part in enumerate(parts)]
    if listed:
        return taken
    return torch.stack(taken) if isinstance(manifolds, Tensor) else np.stack(taken)


def _chosen(n: int, n_points: int, seed: int, manifold: int) -> Any:
    order = torch.randperm(n, generator=stream(seed, "downsample", manifold))
    return order[:n_points].sort().values.numpy()
