"""Ranks of the pairs of RDMs, and their concordance, under multiplicities: tensors around the compiled loops."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat._numba.rank_statistics import concordance, dense_ranks, weighted_ranks
from geomfeat._numba.threads import in_threads
from geomfeat.numerics import WORKING, require_finite

# Dissimilarities closer than this share of the largest one are tied: they are float64 sums, and copies of
# patterns have equal ones whatever precision these came in. A wider tie would join chains of different values.
TIE = 1e-12


def mid_ranks(values: Float[Tensor, "r p"], weights: Float[Tensor, "s p"]) -> Float[Tensor, "s p"]:
    """Ranks of p values in s samples that hold each of them `weights` times; ties get their mean rank.

    values: one row for all samples, or one a sample; a row that is not finite has no ranks: NaN. Computed on the CPU.

    >>> mid_ranks(torch.tensor([[0.5, 0.1, 0.5]], dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)).tolist()
    [[2.5, 1.0, 2.5]]
    """
    v, w = values.cpu().contiguous(), weights.cpu().contiguous()
    # The compiled loop makes indices of values, so that NaN must not reach it. A sum is finite only where all are.
    unranked = None if v.sum(1).isfinite().all() else ~v.isfinite().all(1)
    v = v if unranked is None else torch.where(unranked[:, None], 0, v)
    out = torch.empty_like(w)
    args = v.numpy(), _tie(v).numpy(), w.numpy(), out.numpy()
    in_threads(lambda first, last: weighted_ranks(*args, first, last), len(w), share=64)
    out = out if unranked is None else out.masked_fill_(unranked[:, None], torch.nan)
    return out.to(values.device)


def levels(values: Float[Tensor, "r p"]) -> Int[Tensor, "r p"]:
    """0, 1, 2, ... of the different values of each row, on the CPU; BadInput for values that are not finite."""
    v = require_finite(values.cpu().contiguous(), "values to rank")
    out = torch.empty(v.shape, dtype=torch.int64)
    dense_ranks(v.numpy(), v.argsort(1).numpy(), _tie(v).numpy(), out.numpy())
    return out


def net_concordance(
    a: Int[Tensor, "ra p"], b: Int[Tensor, "rb p"], weights: Float[Tensor, "s p"]
) -> Float[Tensor, "s"]:
    """Concordant minus discordant pairs of the p values, counted with multiplicity, in each of s samples.

    a, b: `levels`, one row for all samples, or one a sample.
    """
    w = weights.cpu().contiguous()
    out = torch.empty(len(w), dtype=WORKING)
    args = a.numpy(), a.argsort(1).numpy(), b.numpy(), w.numpy(), out.numpy()
    in_threads(lambda first, last: concordance(*args, first, last), len(w), share=16)
    return out.to(weights.device)


def _tie(values: Tensor) -> Tensor:
    return TIE * values.abs().amax(1)
