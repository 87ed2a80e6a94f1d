"""Prediction of the simulated capacity from the faces of the cones: P / median(k).

The face that holds p has dimension k, and by the conic Crofton formula (Amelunxen et al. 2014, eq. 5.10; McCoy & Tropp
2014) a Gaussian projection to n dimensions keeps the classes separable with probability 2 sum_{odd i} P(k = n - i),
which crosses 1/2 near the median of k.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from geomfeat.numerics import WORKING, stream

RESAMPLES = 200


def simulated_capacity(faces: Int[Tensor, "draws"], n_manifolds: int, seed: int) -> tuple[float, float]:
    """P / median(k) and its bootstrap standard error.

    >>> simulated_capacity(torch.tensor([4, 5, 5, 6]), 10, 0)[0]
    2.0
    """
    counts = torch.bincount(faces.cpu()).to(WORKING)
    noise = stream(seed, "capacity", "bootstrap")
    again = torch.multinomial(counts, RESAMPLES * len(faces), replacement=True, generator=noise)
    again = again.reshape(RESAMPLES, -1)
    resampled = torch.zeros(RESAMPLES, len(counts), dtype=WORKING)
    resampled.scatter_add_(1, again, torch.ones(again.shape, dtype=WORKING))
    return n_manifolds / float(_grouped_median(counts[None])), float((n_manifolds / _grouped_median(resampled)).std())


def _grouped_median(counts: Tensor) -> Tensor:
    """Median of whole numbers spread over +-1/2 each, from their counts (rows of samples, numbers from 0).

    Exact for the binomial k of P independent points, P / 2.
    """
    up_to = counts.cumsum(1)
    half = up_to[:, -1:] / 2
    middle = (up_to < half).sum(1, keepdim=True)
    here = counts.gather(1, middle)
    below = up_to.gather(1, middle) - here
    # Never below 1/4: a cone that hardly ever holds anything has no finite prediction from so few draws.
    return (middle - 0.5 + (half - below) / here)[:, 0].clamp_min(0.25)
