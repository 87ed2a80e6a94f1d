"""Sums of the squares of a linear kernel's rows, from features alone."""

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.numerics import matmul, own_products, row_sums

BLOCK = 128  # features whose products with all later ones are formed at once
ROWS = 1024  # samples whose products are formed at once


def own_dots(x: Float[Tensor, "n d"], product: Float[Tensor, "d d"] | None = None) -> Float[Tensor, "n"]:
    """sum_j K_ij^2 = x_i' (X'X) x_i for K = XX'. X'X (`product`) is symmetric, so half of it is enough."""
    upper = (own_products(x) if product is None else product).clone()
    for first in range(0, x.shape[1], BLOCK):
        upper[first : first + BLOCK, first + BLOCK :] *= 2  # each stands for its mirror image left of the diagonal too
    dots = torch.zeros_like(x[:, 0])
    for rows in blocks_of_rows(len(x)):
        some = x[rows]
        for first in range(0, x.shape[1], BLOCK):
            along = matmul(some[:, first : first + BLOCK], upper[first : first + BLOCK, first:])
            dots[rows] += row_sums(along, some[:, first:])
    return dots


def blocks_of_rows(n: int) -> list[slice]:
    """Rows whose products stay in a cache: storing them all and reading them again takes as long as the products."""
    return [slice(first, first + ROWS) for first in range(0, n, ROWS)]
