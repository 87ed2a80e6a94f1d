"""Standard errors of means over draws, from the influence of each draw (delta method)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.numerics import WORKING


def stderr(
    influence: Float[Tensor, "draws *rest"], strata: Int[Tensor, "draws"] | None = None
) -> Float[Tensor, "*rest"]:
    """Standard error of the mean of `influence` over its first axis; NaN from a single draw.

    With strata (dichotomies that take turns) only the variance within each counts, and what the last, incomplete turn
    adds: its l strata are a random choice from m, which moves the mean by (l/n)^2 (S^2/l) (1 - l/m), with S^2 the
    variance between strata (Cochran 1977, Sampling Techniques, eqs. 5.6 and 2.8). Where a stratum has one draw only,
    its variance is not known: the error is then that of independent draws, which is too large rather than too small.

    >>> value = torch.tensor([0.0, 0.1, 1.0, 1.1], dtype=torch.float64)
    >>> which = torch.tensor([0, 0, 1, 1])
    >>> float(stderr(value)) > 5 * float(stderr(value, which))
    True
    """
    n = influence.shape[0]
    flat = influence.reshape(n, -1).to(WORKING)
    if n < 2:
        return torch.full(influence.shape[1:], torch.nan, dtype=WORKING, device=influence.device)
    variance = _stratified(flat, strata) if strata is not None else None
    if variance is None:
        variance = (flat - flat.mean(0)).square().sum(0) / (n * (n - 1))
    return variance.sqrt().reshape(influence.shape[1:])


def _stratified(flat: Tensor, strata: Tensor) -> Tensor | None:
    n = flat.shape[0]
    _, which, counts = torch.unique(strata, return_inverse=True, return_counts=True)
    if int(counts.min()) < 2:
        return None
    m = len(counts)
    empty = torch.zeros(m, flat.shape[1], dtype=WORKING, device=flat.device)
    means = empty.index_add(0, which, flat) / counts[:, None]
    within = empty.index_add(0, which, (flat - means[which]).square()) / (counts - 1)[:, None]
    variance = (counts[:, None] * within).sum(0) / n**2
    # The n % m draws left over fall on strata without replacement, so that which strata they meet adds to the variance.
    extra = n % m
    if extra:
        between = (means.var(0) - (within / counts[:, None]).mean(0)).clamp_min(0.0)
        variance = variance + extra / n**2 * between * (1 - extra / m)
    return variance


def on_mean(value: Float[Tensor, "draws *rest"], defined: Tensor) -> Float[Tensor, "draws *rest"]:
    """Influence of each draw on the mean of `value` over the draws where it is `defined`; 0 where it is not."""
    share = defined.to(WORKING).mean(0)
    mean = (value * defined).sum(0) / defined.sum(0).clamp_min(1)
    return torch.where(defined, value - mean, 0.0) / torch.where(share > 0, share, 1.0)
