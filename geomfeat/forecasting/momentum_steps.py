"""Training of the linearised network by the very steps of gradient descent with momentum, where they are few.

Momentum m moves at its full rate after some 1 / (1 - m) steps, and goes on after the loss has turned: a training of
few steps is no gradient flow, and ends elsewhere. In coefficients a of Dtheta = J' a, with f = f(0) + K a, a step is

    v <- m v - dL/df,     a <- a + rate v.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.forecasting.linear_training import MOST_PRODUCTS, LinearTraining, Product, product_of
from geomfeat.forecasting.output_loss import OutputLoss
from geomfeat.numerics import WORKING


def train_by_momentum(
    kernel: Float[Tensor, "m m"] | Product,
    start: Float[Tensor, "n c"],
    loss: OutputLoss,
    *,
    rate: float,
    momentum: float,
    target: float | None,
    n_steps: int | None = None,
) -> LinearTraining | None:
    """Full-batch steps from outputs `start` until the relative loss is `target`, or `n_steps`; None if they are many.

    The last step is a whole one, so that the loss may end below the target. `time` is that of the flow which moves at
    the full rate: steps times rate / (1 - momentum). None too where the loss does not stay finite.

    Args:
        kernel: (n C, n C), rows sample by sample, or the product v -> K v of (n, C) arrays.

    >>> from geomfeat.forecasting.output_loss import output_loss
    >>> loss = output_loss("mse", torch.tensor([1.0]), 1)
    >>> eye, zero = torch.eye(1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    >>> found = train_by_momentum(eye, zero, loss, rate=0.25, momentum=0.5, target=0.01)  # 0, 1/2, 1
    >>> round(float(found.change), 9), found.time
    (1.0, 1.0)
    """
    product, start = product_of(kernel), start.to(WORKING)
    a, velocity, change = torch.zeros_like(start), torch.zeros_like(start), torch.zeros_like(start)
    most = MOST_PRODUCTS if n_steps is None else n_steps
    if most > MOST_PRODUCTS and target is None:
        return None
    for number in range(1, min(most, MOST_PRODUCTS) + 1):
        velocity = momentum * velocity - loss.slope(start + change)
        a = a + rate * velocity
        change = product(a).to(WORKING)
        now = loss.relative(start + change)
        if not torch.isfinite(change).all():
            return None
        reached = target is not None and now <= target
        if reached or number == n_steps:
            return LinearTraining(change, a, number * rate / (1 - momentum), now, reached, by_steps=True)
    return None
