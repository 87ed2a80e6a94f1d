"""A random number for each sample that follows from its index alone: the same in every batch and process."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput


def number_of_each(index: Tensor, seed: int, purpose: int = 0) -> np.ndarray:
    """(m,) uint64 for samples `index` (m,), equal for equal index, seed and purpose, and else as good as random.

    >>> one, two = number_of_each(torch.tensor([7, 8, 7]), 0)[[0, 2]]
    >>> bool(one == two)
    True
    """
    from pandas import util

    hashed: Any = util.hash_array  # which pandas leaves without a type
    own = hashed(np.array([seed], dtype=np.int64).view(np.uint64), categorize=False)
    drawn = hashed(hashed(index.numpy().view(np.uint64), categorize=False) ^ own, categorize=False)
    for _ in range(purpose):
        drawn = hashed(drawn, categorize=False)
    return drawn


def whole_numbers(value: Any, n: int, name: str) -> Tensor:
    """(n,) int64 on the CPU; BadInput for another shape, or for what is not whole.

    >>> whole_numbers([3, 4], 2, "index")
    tensor([3, 4])
    """
    out = torch.as_tensor(value)
    if out.shape != (n,) or out.is_floating_point() or out.is_complex():
        raise BadInput(f"{name} of shape {tuple(out.shape)}, {out.dtype}: give {n} whole numbers, one for each sample")
    return out.long().cpu()
