"""Gram matrices of patterns under a noise precision, and the squared distances in them; any leading batch axes."""

from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat._numba.threads import libraries_on_one_thread

# Multiplications (about 50 ms on one core) below which a product is not worth waking other threads for.
SMALL_PRODUCT = 1e9


def gram(x: Float[Tensor, "*batch n runs d"], precision: Tensor | None = None) -> Float[Tensor, "*batch n n"]:
    """Sum over runs of x_r P x_r' of n patterns in each; P (d,) or (d, d), None: the identity.

    >>> gram(torch.tensor([[[1.0, 2.0]], [[0.0, 1.0]]])).tolist()
    [[5.0, 2.0], [2.0, 1.0]]
    """
    if precision is not None and precision.ndim == 2:
        return (x @ precision).flatten(-2) @ x.flatten(-2).mT
    scaled = (x if precision is None else x * precision.sqrt()).flatten(-2)
    if scaled.is_cuda or scaled.ndim > 2:
        return scaled @ scaled.mT
    # numpy calls the product of a matrix with its own transpose by its name, which halves the work. After a small one
    # the threads of its library would spin for longer than it took, on the cores that torch's need next.
    rows = scaled.numpy()
    with libraries_on_one_thread() if len(rows) * rows.size < SMALL_PRODUCT else nullcontext():
        return torch.from_numpy(rows @ rows.T)


def squared_distances(products: Float[Tensor, "*batch n n"]) -> tuple[Tensor, Tensor]:
    """g_ii + g_jj - g_ij - g_ji of all pairs as an upper triangle, and g_ii + g_jj, from which these come."""
    n = products.shape[-1]
    rows, columns = torch.triu_indices(n, n, 1, device=products.device)
    norms = products.diagonal(dim1=-2, dim2=-1)
    sizes = norms[..., rows] + norms[..., columns]
    return sizes - products[..., rows, columns] - products[..., columns, rows], sizes
