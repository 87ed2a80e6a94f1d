"""Two representations must be of the same samples."""

from torch import Tensor

from geomfeat.errors import BadInput


def require_same_samples(a: Tensor, b: Tensor) -> None:
    """BadInput for other numbers of rows.

    >>> import torch
    >>> require_same_samples(torch.zeros(3, 2), torch.zeros(3, 5))
    """
    if a.shape[0] != b.shape[0]:
        raise BadInput(
            f"a has {a.shape[0]} samples, b has {b.shape[0]}: compare them on the same inputs in the same order"
        )
