"""Sparse random projection: the same matrix for a layer at every checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import numpy_stream

# What "auto" does: at 4096 features a covariance takes 0.1 GB, and 2048 random directions preserve distances between
# samples to about sqrt(2 / 2048) = 3 %.
AUTO, WIDE, PROJECTED = "auto", 4096, 2048


def check_projection(project: Any) -> None:
    """BadInput for what is no projection."""
    if project not in (AUTO, None) and not (isinstance(project, int) and project >= 1):
        raise BadInput(f"project={project!r}: use 'auto', None, or a number of features of at least 1")


def projected_width(d: int, project: int | str | None) -> int | None:
    """The number of features that a layer of d features is projected to, or None where it is left as it is.

    >>> projected_width(5000, "auto"), projected_width(4096, "auto"), projected_width(100, 10), projected_width(10, 10)
    (2048, None, 10, None)
    """
    widest, k = (WIDE, PROJECTED) if project == AUTO else (project, project)
    return k if isinstance(widest, int) and isinstance(k, int) and d > widest else None


def projection_matrix(d: int, k: int, layer: str, seed: int = 0) -> Tensor:
    """scikit-learn's sparse random projection from d to k dimensions, as a sparse (k, d) matrix in float64.

    Entries are 0 or +-sqrt(1 / (s k)) with density s = 1 / sqrt(d) (Li, Hastie and Church 2006), so squared distances
    are kept in expectation. It depends on the seed, the layer's name, d and k alone, hence is the same for a layer at
    every checkpoint, on every device and for every batch size.

    >>> projection_matrix(100, 10, "fc1").shape
    torch.Size([10, 100])
    """
    from sklearn.random_projection import SparseRandomProjection  # half a second, of use for wide layers alone

    if not 1 <= k < d:
        raise BadInput(f"project={k} must be at least 1 and below the number of features, {d}")
    state = int(numpy_stream(seed, "projection", layer).integers(2**32))
    options: dict[str, Any] = {"n_components": k, "random_state": state}
    matrix = SparseRandomProjection(**options).fit(np.zeros((1, d))).components_.tocoo()
    indices = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
    return torch.sparse_coo_tensor(indices, torch.from_numpy(matrix.data), (k, d), check_invariants=True)


def project(x: Tensor, matrix: Tensor) -> Tensor:
    """Rows of `x` (n, d) projected to (n, k), in the precision of `x`."""
    return torch.sparse.mm(matrix.to(x.device, x.dtype), x.mT).mT.contiguous()
