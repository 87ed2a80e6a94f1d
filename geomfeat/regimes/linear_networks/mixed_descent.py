"""Gradient descent of a two-layer linear network without its weights: exact, at a cost that no width changes.

The products A = W2 W1, M1 = W1' W1 and M2 = W2 W2' determine the descent on |A - Y|^2 / 2: their next values depend on
themselves alone. They are the blocks of one Gram matrix, [M1 A'; A M2] = Q Q', so weights of at most inputs + outputs
hidden units have the same products, and are what is stepped. (Steps of the products themselves leave, by rounding, the
Gram matrices of rank of the width; in a narrow network, and near a saddle, that error grows without bound.)

The start of random weights too needs no matrix with a side of the width: see `random_products`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, numpy_stream, require_finite, safe_eigh, stream
from geomfeat.regimes.linear_networks.balance import chained


@dataclass(frozen=True, eq=False)
class Products:
    """All that the function of a two-layer linear network and its training depend on; float64.

    Attributes:
        map: (..., outputs, inputs) A = W2 W1.
        first: (..., inputs, inputs) M1 = W1' W1.
        second: (..., outputs, outputs) M2 = W2 W2'.
    """

    map: Tensor
    first: Tensor
    second: Tensor


def products_of(first: Float[Tensor, "w i"], second: Float[Tensor, "o v"]) -> Products:
    """The products of given weights W1 (width, inputs) and W2 (outputs, width).

    >>> products_of(torch.ones(3, 2), torch.ones(1, 3)).map
    tensor([[3., 3.]], dtype=torch.float64)
    """
    w1, w2 = chained(first, second)
    return Products(w2 @ w1, w1.mT @ w1, w2 @ w2.mT)


def random_products(outputs: int, inputs: int, width: int, sigma: float, *, seed: int = 0) -> Products:
    """The products of weights drawn from N(0, sigma^2), with their exact joint law, at a cost that no width changes.

    W1 = Q R has R independent of Q and known in law: the root of a Wishart matrix (Bartlett 1933). W2 Q is Gaussian,
    and the rest of W2 gives a Wishart matrix of width - inputs degrees of freedom. Below a width of inputs + outputs
    the weights themselves are drawn.

    >>> p = random_products(3, 4, 10**7, 0.1)
    >>> bool((p.first / (0.1**2 * 10**7) - torch.eye(4)).abs().max() < 0.01)
    True
    """
    if min(outputs, inputs, width) < 1 or not 0 < sigma < math.inf:
        raise BadInput(
            f"outputs={outputs}, inputs={inputs}, width={width}, sigma={sigma} must all be positive (whole sizes)"
        )
    g = stream(seed, "mixed dynamics", outputs, inputs, width)
    if width < inputs + outputs:
        first = torch.randn(width, inputs, generator=g, dtype=WORKING)
        return products_of(sigma * first, sigma * torch.randn(outputs, width, generator=g, dtype=WORKING))
    # W2 splits into W2 Q (inside) and what is orthogonal to the columns of Q (outside): A = W2 Q R needs the first
    # alone, and M2 is the sum of both squares.
    root = _wishart_root(inputs, width, seed, "first")
    inside = torch.randn(outputs, inputs, generator=g, dtype=WORKING)
    outside = _wishart_root(outputs, width - inputs, seed, "outside")
    second = inside @ inside.mT + outside.mT @ outside
    return Products(sigma**2 * inside @ root, sigma**2 * root.mT @ root, sigma**2 * second)


def descend_products(
    start: Products, target: Tensor, learning_rate: float | Tensor, steps: Sequence[int]
) -> list[Products]:
    """The products after each number of full-batch gradient-descent steps on |A - Y|^2 / 2, white inputs.

    Equal to descent on the weights to rounding. Stable for learning rates below 1 / (|M1| + |M2|) at any time.

    Raises BadInput for a target of another shape or with NaN, and for rates or steps out of range.

    Args:
        target: (..., outputs, inputs) Y; leading dimensions run side by side with those of `start`.
        learning_rate: one, or a tensor that broadcasts against the products.
        steps: increasing whole numbers, from 0.

    >>> end = descend_products(random_products(2, 2, 500, 0.1), torch.eye(2), 0.05, [0, 200])[-1]
    >>> bool((end.map - torch.eye(2)).norm() < 1e-6)
    True
    """
    if not len(steps) or steps[0] < 0 or any(b <= a for a, b in pairwise(steps)):
        raise BadInput(f"steps={list(steps)[:5]} must be one or more increasing whole numbers, from 0")
    target = as_tensor(target, "target", WORKING)
    if target.shape[-2:] != start.map.shape[-2:]:
        raise BadInput(f"target is {tuple(target.shape)}, the map {tuple(start.map.shape)}: give Y in the map's shape")
    rate = as_tensor(learning_rate, "learning_rate", WORKING)
    if not bool(((rate > 0) & (rate < math.inf)).all()):
        raise BadInput(f"learning_rate={learning_rate} must be positive and finite")
    y = require_finite(target, "target")
    (w1, w2), out, done = smallest_weights(start), [], 0
    for step in steps:
        for _ in range(step - done):
            w1, w2 = weight_step(w1, w2, y, rate)
        out.append(start if step == 0 else Products(w2 @ w1, w1.mT @ w1, w2 @ w2.mT))
        done = step
    return out


def smallest_weights(p: Products) -> tuple[Tensor, Tensor]:
    """Weights (W1, W2) of inputs + outputs hidden units that have the given products; unused units are exactly 0.

    >>> w1, w2 = smallest_weights(random_products(2, 3, 10**6, 0.1))
    >>> w1.shape, w2.shape
    (torch.Size([5, 3]), torch.Size([2, 5]))
    """
    gram = torch.cat([torch.cat([p.first, p.map.mT], -1), torch.cat([p.map, p.second], -1)], -2)
    values, vectors = safe_eigh(gram)
    noise = gram.shape[-1] * torch.finfo(WORKING).eps * values[..., -1:]
    q = vectors * torch.where(values > noise, values, 0.0).sqrt()[..., None, :]
    inputs = p.first.shape[-1]
    return q[..., :inputs, :].mT, q[..., inputs:, :]


def weight_step(w1: Tensor, w2: Tensor, target: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """One gradient-descent step of (..., hidden, inputs) and (..., outputs, hidden) on |W2 W1 - Y|^2 / 2."""
    gap = rate * (w2 @ w1 - target)
    return w1 - w2.mT @ gap, w2 - gap @ w1.mT


def _wishart_root(size: int, degrees: int, seed: int, name: str) -> Tensor:
    """Upper triangular R with R' R a standard Wishart matrix: normal above the diagonal, chi on it (Bartlett 1933)."""
    names = ("mixed dynamics", name, size, degrees)
    above = torch.randn(size, size, generator=stream(seed, *names), dtype=WORKING).triu(1)
    squares = numpy_stream(seed, *names, "diagonal").chisquare([degrees - i for i in range(size)])
    return above + torch.diag(torch.as_tensor(squares, dtype=WORKING).sqrt())
