"""Standard errors of crossnobis distances from the spread of conditions over runs (Diedrichsen et al. 2020, sec. 2.3).

With whitened patterns (P = I) and the noise covariance S / n of a mean of n trials, the distance of a pair with true
difference v has the variance
    (4 v'Sv sum_r w_r (W - w_r)^2 + 2 tr(S^2) T) / (T^2 d^2),   W = sum_r w_r,   T = sum_{r != s} w_r w_s,
with the weights w_r of `crossnobis_distances`; for M equal runs that is 4/M v'S'v + 2/(M (M-1)) tr(S'^2), S' = S / w.

S is estimated from what is left of the means after effects of runs and conditions, fitted by weighted least squares,
with f = cells - rank degrees of freedom. For Gaussian noise and S^ = Z'Z / f both are unbiased:
    tr(S^2) from (tr (Z'Z)^2 - (tr Z'Z)^2 / f) / ((f - 1)(f + 2)),   v'Sv from v^'S^v^ - tr(S^2) c,
c being the variance factor of the fitted v^, which is independent of S^.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.geometry.rsa.crossnobis import measured, pair_weights, sum_of_products
from geomfeat.geometry.rsa.products import gram, squared_distances

# Degrees of freedom from which the trace of S^2 can be determined.
FEWEST_DOF = 2


def distance_errors(
    means: Float[Tensor, "runs conditions d"], counts: Float[Tensor, "runs conditions"]
) -> Float[Tensor, "pairs"]:
    """Standard error of each distance of `crossnobis_distances`; NaN with fewer than two degrees of freedom.

    means, counts: as from `cell_means`, whitened already, where a precision belongs to the distances.
    """
    n_runs, n, d = means.shape
    run, condition = (counts > 0).nonzero(as_tuple=True)
    size = counts[run, condition].sqrt()[:, None]
    design = torch.zeros(len(run), n_runs + n, dtype=means.dtype, device=means.device)
    rows = torch.arange(len(run), device=means.device)
    design[rows, run] = design[rows, n_runs + condition] = 1.0
    design = size * design
    y = size * (means - means.mean((0, 1)))[run, condition]
    inverse = torch.linalg.pinv(design, rtol=1e-10)
    fitted = inverse @ y
    left = y - design @ fitted
    dof = len(run) - int(torch.linalg.matrix_rank(design, rtol=1e-10))
    if dof < FEWEST_DOF:
        return torch.full_like(squared_distances(counts.T @ counts)[0], torch.nan)
    spread = _trace_of_square(left, dof)
    along = gram((fitted[n_runs:] @ left.T)[:, None]) / dof
    factor = squared_distances((inverse @ inverse.T)[n_runs:, n_runs:])[0]
    signal = (squared_distances(along)[0] - spread * factor).clamp_min(0)
    weights = pair_weights(counts)
    total = torch.where(measured(counts), sum_of_products(weights), torch.nan)
    of_runs = (weights * (weights.sum(0) - weights).square()).sum(0)
    return (4 * signal * of_runs + 2 * spread * total).sqrt() / (total * d)


def _trace_of_square(left: Float[Tensor, "cells d"], dof: int) -> Tensor:
    """tr(S^2), at least the least that a covariance of this trace has: (tr S)^2 / d."""
    trace = left.square().sum()
    square = (left.T @ left if left.shape[0] > left.shape[1] else left @ left.T).square().sum()
    found = (square - trace.square() / dof) / ((dof - 1) * (dof + 2))
    return torch.maximum(found, (trace / dof).square() / left.shape[1])
