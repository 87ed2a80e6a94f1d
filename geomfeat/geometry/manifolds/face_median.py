"""Prediction of the simulated capacity from the faces of the cones: P / median(k).

The face that holds p has dimension k, and by the conic Crofton formula (Amelunxen et al. 2014, eq. 5.10; McCoy & Tropp
2014) a Gaussian projection to n dimensions keeps the classes separable with probability 2 sum_{odd i} P(k = n - i),
which crosses 1/2 near the median of k. That holds where every dichotomy is separable; `crofton` has the whole curve.
"""

from jaxtyping import Int
from torch import Tensor

from geomfeat.numerics import WORKING
from geomfeat.statistics.influence_functions import stderr


def capacity_from_median(
    faces: Int[Tensor, "draws"], n_manifolds: int, strata: Int[Tensor, "draws"] | None = None
) -> tuple[float, float]:
    """P / median(k) and its standard error.

    The median of whole numbers spread over +-1/2 each, exact for the binomial k of P independent points, P / 2: with
    F the share below the middle number m and h the share at it, m - 1/2 + (1/2 - F) / h, which is smooth in F and h.

    >>> import torch
    >>> capacity_from_median(torch.tensor([4, 5, 5, 6]), 10)[0]
    2.0
    """
    k = faces.to(WORKING)
    middle = k.sort().values[(len(k) - 1) // 2]
    is_below, is_here = (k < middle).to(WORKING), (k == middle).to(WORKING)
    below, here = is_below.mean(), is_here.mean()
    # Never below 1/4: a cone that hardly ever holds anything has no finite prediction from so few draws.
    median = max(0.25, float(middle - 0.5 + (0.5 - below) / here))
    influence = -(is_below - below) / here - (0.5 - below) / here.square() * (is_here - here)
    return n_manifolds / median, n_manifolds / median**2 * float(stderr(influence, strata))
