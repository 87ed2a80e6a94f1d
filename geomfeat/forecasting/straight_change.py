"""The change of outputs that a rich training makes, beside that of the linearised network.

Two changes lead to one loss. The linearised network learns what its kernel holds first: along few directions, some
samples far beyond what the loss asks, others hardly. A network far from its linear range has changed the kernel to fit
the targets by then, and brings all samples to much the same loss. Outputs that change straight along the first gradient
of the loss do that,

    Delta = -s n dL/df(f(0)),     s the smallest with L(f(0) + Delta) = the loss that training gets to,

from outputs 0 exactly: for cross-entropy equal margins, as neural collapse has them (Papyan, Han and Donoho 2020), for
the mean square one share of every target. The demand R of a training lies between those of the two: at the first where
the kernel stays put (kappa << 0), at the second where it does not, and the share of the way was found to be

    w = 1 / (1 + 10^(k - kappa)),     kappa the kernel demand of the linearised network's change,

with one k for all networks and losses. The two demands are nearly one for perceptrons and convolutional networks; with
attention and in recurrent networks they are up to .65 decades apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import expit
from torch import Tensor

from geomfeat.forecasting.output_loss import OutputLoss

# Lengths among which the target is sought, each a few per cent longer: a loss may rise again behind its minimum.
LENGTHS = np.geomspace(1e-4, 1e6, 1000)
# k: at the middle the kernel would change by 1.6 of its size, .2 * 10^kappa. By what benchmarks/forecast.py measured.
HALF_WAY = 0.9
ONE = 0.03  # decades of R between the two changes up to which they are not distinguished


def straight_change(loss: OutputLoss, start: Float[Tensor, "n c"], reached: float) -> Float[Tensor, "n c"] | None:
    """Change of the outputs straight along the loss's first gradient; None if the loss never is `reached` along it.

    Args:
        start: outputs before training. reached: loss after it, relative to that of outputs 0.

    >>> import torch
    >>> from geomfeat.forecasting.output_loss import output_loss
    >>> loss = output_loss("mse", torch.tensor([3.0, 4.0]), 1)
    >>> change = straight_change(loss, torch.zeros(2, 1, dtype=torch.float64), 0.25)
    >>> [round(value, 9) for value in change.flatten().tolist()]  # half of the targets
    [1.5, 2.0]
    """
    along = -loss.n * loss.slope(start)

    def above(length: float) -> float:
        return loss.relative(start + length * along) - reached

    if not above(0.0) > 0:
        return None
    before = 0.0
    for length in LENGTHS.tolist():
        if above(length) <= 0:
            return float(brentq(above, before, length, xtol=1e-12 * length)) * along  # type: ignore[arg-type]
        before = length
    return None


def between(values: Sequence[float], share: float) -> float:
    """The first of one or two values, moved by a share of the way to the second; as it is where one is not finite.

    >>> between([1.0, 2.0], 0.25), between([-np.inf, -np.inf], 0.25), between([3.0], 0.0)
    (1.25, -inf, 3.0)
    """
    first, last = values[0], values[-1]
    return first + share * (last - first) if np.isfinite(first) and np.isfinite(last) else first


def share_of_straight(kernel_demand: float) -> float:
    """w of a kernel demand.

    >>> share_of_straight(HALF_WAY), share_of_straight(-np.inf)
    (0.5, 0.0)
    """
    return float(expit(math.log(10) * (kernel_demand - HALF_WAY)))
