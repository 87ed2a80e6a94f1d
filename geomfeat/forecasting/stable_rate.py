"""The largest rate at which gradient descent is stable at the start, and where a rate lies beside it.

The Gauss-Newton Hessian of the loss is J' H J, H the loss's own Hessian in the outputs; its largest eigenvalue is that
of G' K G with H = G G'. Descent with momentum m is stable on it up to the rate 2 (1 + m) / lambda_max (Goh 2017). In
rich networks the curvature grows while they learn, by the more the larger the kernel demand kappa, so that the rule is

    stable rate = 2 (1 + m) / lambda_max * min(1, 10^(.5 - kappa)).

Beyond it a network may catapult: the loss rises until the kernel has shrunk, up to about twice the rate (Lewkowycz et
al. 2020); a network whose kernel cannot change diverges at once.
"""

from __future__ import annotations

import math

from torch import Tensor

from geomfeat.forecasting.linear_training import Product, largest_eigenvalue
from geomfeat.forecasting.output_loss import OutputLoss

MARGIN = 0.5  # decades of kernel demand that leave the curvature of the start in place
SAFE = 0.5  # share of the stable rate of descent without momentum that is proposed, with momentum too
CATAPULT_UP_TO = 2.0  # times the stable rate
FLOW, EDGE, CATAPULT, DIVERGENCE = "flow", "near the edge", "catapult", "divergence"


def curvature(product: Product, f: Tensor, loss: OutputLoss) -> float:
    """lambda_max of J' H J at outputs f (n, C), from products v -> K v of (n, C) arrays.

    >>> import torch
    >>> from geomfeat.forecasting.output_loss import output_loss
    >>> x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)  # f = w x, L = mean (f - y)^2: second derivative 10
    >>> round(curvature(lambda v: x @ (x.mT @ v), 0 * x, output_loss("mse", torch.ones(2), 1)), 9)
    10.0
    """

    def within(v: Tensor) -> Tensor:
        return loss.root(f, product(loss.root(f, v)), transposed=True)

    return largest_eigenvalue(within, f, rtol=1e-6)


def stable_rate(largest: float, kernel_demand: float, momentum: float = 0.0) -> float:
    """The rule, from lambda_max and kappa (-inf for a kernel that cannot change, NaN where it is not known).

    >>> stable_rate(10.0, -1.0), round(stable_rate(10.0, 1.5), 6)
    (0.2, 0.02)
    """
    if not largest > 0:
        return math.inf
    growth = min(1.0, 10 ** (MARGIN - kernel_demand)) if kernel_demand > MARGIN else 1.0
    return 2 * (1 + momentum) / largest * growth


def proposed_rate(stable: float, momentum: float = 0.0) -> float:
    """Half of the stable rate without momentum: with momentum, networks leave the linear range well below its limit.

    >>> proposed_rate(0.2), round(proposed_rate(0.3, momentum=0.5), 9)
    (0.1, 0.1)
    """
    return SAFE * stable / (1 + momentum)


def place_of_rate(rate: float, stable: float, kernel_demand: float, momentum: float = 0.0) -> str:
    """ "flow" up to the proposed rate, "near the edge" up to the stable one, "catapult", "divergence"; "" for NaN.

    >>> [place_of_rate(rate, 0.2, 0.0) for rate in (0.05, 0.15, 0.3, 0.5)]
    ['flow', 'near the edge', 'catapult', 'divergence']
    """
    if math.isnan(rate) or math.isnan(stable):
        return ""
    if rate <= stable:
        return FLOW if rate <= proposed_rate(stable, momentum) else EDGE
    return CATAPULT if rate <= CATAPULT_UP_TO * stable and kernel_demand > -math.inf else DIVERGENCE
