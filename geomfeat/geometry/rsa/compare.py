"""Similarity of two RDMs, for one set of stimuli or for many resamples of it in a few tensor operations.

A resample of n stimuli holds stimulus i w_i times, so each pair of different stimuli w_i w_j times: every comparator is
a weighted sum over the pairs there are. Pairs of a stimulus with its own copy are left out: their dissimilarity is 0 by
construction, and would make any two RDMs similar (Schuett et al. 2023).
"""

import logging

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa._ranks import levels, mid_ranks, net_concordance
from geomfeat.geometry.rsa.measured_pairs import FEWEST_PAIRS, groups_of_rows, pairs_left, whitened_on_pairs
from geomfeat.geometry.rsa.rdms import RDMs, square
from geomfeat.numerics import WORKING

logger = logging.getLogger(__name__)

COMPARATORS = ("cosine", "correlation", "spearman", "rho_a", "kendall_tau_a", "whitened_cosine")
RANKED = ("spearman", "rho_a", "kendall_tau_a")
# Entries of the arrays (samples x RDMs x pairs) held at a time.
HELD = 2**23
# Different stimuli that a resample must have for a similarity.
FEWEST_STIMULI = 3
# A share of an RDM's length that sums in float64 can make of nothing; the precision of patterns is seen to in `rdm`.
ROUNDING = 1e-12


def compare_rdms(a: RDMs, b: RDMs, comparator: str = "cosine") -> Float[Tensor, "k l"]:
    """Similarity of each RDM of a with each of b, in [-1, 1].

    Args:
        a, b: RDMs of the same conditions in the same order.
        comparator: "cosine"; "correlation" (Pearson); "spearman" (ranks, ties averaged); "rho_a" (Spearman as expected
            when ties are broken at random, Schuett et al. 2023); "kendall_tau_a" (concordant minus discordant pairs of
            dissimilarities over all of them, Nili et al. 2014); "whitened_cosine" (cosine after whitening by the
            covariance that noise in the patterns gives to squared distances, Diedrichsen et al. 2021; for squared
            Euclidean RDMs it is the biased linear CKA of the patterns).

    NaN where it is undefined: an RDM of zeros, one without variance (correlation, spearman). Where pairs are NaN, two
    RDMs are compared on those that both have, whatever others lack; the log says how many, and fewer than 3 give NaN.

    Raises BadInput for an unknown comparator and for different conditions.

    >>> a, b = RDMs(torch.tensor([1.0, 2.0, 3.0])), RDMs(torch.tensor([2.0, 4.0, 5.0]))
    >>> [round(float(compare_rdms(a, b, how)), 3) for how in ("cosine", "rho_a", "kendall_tau_a")]
    [0.996, 1.0, 1.0]
    """
    _check(a, b, comparator)
    x, y, n = a.vectors, b.vectors.to(a.vectors.device), a.n_conditions
    note = pairs_left(x, y)
    if note:
        logger.warning(note)
    out = x.new_full((len(x), len(y)), torch.nan)
    for rows, of_a in groups_of_rows(x):
        for columns, of_b in groups_of_rows(y):
            kept = of_a & of_b
            if int(kept.sum()) >= min(FEWEST_PAIRS, x.shape[1]):
                first, second = _scaled(x[rows], ~kept), _scaled(y[columns], ~kept)
                if comparator == "whitened_cosine" and not bool(kept.all()):
                    found = whitened_on_pairs(first[:, kept], second[:, kept], kept, n)
                else:
                    found = similarities(first, second, comparator, x.new_ones(1, n))[0]
                out[rows[:, None], columns] = found
    return out


def missing_pairs(*groups: RDMs) -> list[str]:
    """A sentence on the pairs that are not measured in all RDMs and so left out of all, or none."""
    absent = torch.cat([rdms.vectors.isnan().cpu() for rdms in groups])
    lost, pairs = int(absent.any(0).sum()), absent.shape[1]
    if not lost:
        return []
    names = [name for rdms in groups for name in rdms.names]
    worst = int(absent.sum(1).argmax())
    return [
        f"{pairs - lost} of {pairs} pairs of conditions are used: {lost} are missing in at least one of "
        f"{len(names)} RDMs and left out of all; {names[worst]!r} lacks most ({int(absent[worst].sum())})"
    ]


def aligned(a: RDMs, b: RDMs, comparator: str) -> tuple[Tensor, Tensor, int]:
    """Both as (k, pairs) scaled to largest entries of 1, NaN where a pair is missing in any; and their conditions."""
    _check(a, b, comparator)
    x, y = a.vectors, b.vectors.to(a.vectors.device)
    missing = x.isnan().any(0) | y.isnan().any(0)
    if bool(missing.all()):
        raise BadInput("no pair of conditions is measured in all RDMs: leave out RDMs with many missing pairs")
    if bool(missing.any()) and comparator == "whitened_cosine":
        raise BadInput(f"whitened_cosine needs all pairs, {int(missing.sum())} are NaN: take() other conditions")
    return _scaled(x, missing), _scaled(y, missing), a.n_conditions


def _check(a: RDMs, b: RDMs, comparator: str) -> None:
    if comparator not in COMPARATORS:
        raise BadInput(f"comparator={comparator!r}: use one of {', '.join(map(repr, COMPARATORS))}")
    if a.conditions != b.conditions:
        raise BadInput(
            f"the RDMs have different conditions ({a.n_conditions} and {b.n_conditions}), or another order of them: "
            "use take(conditions)"
        )


def _scaled(vectors: Tensor, missing: Tensor) -> Tensor:
    kept = vectors.masked_fill(missing, 0)
    largest = kept.abs().amax(1, keepdim=True)
    return torch.where(largest > 0, kept / largest, kept).masked_fill(missing, torch.nan)


def similarities(
    a: Float[Tensor, "k p"], b: Float[Tensor, "l p"], comparator: str, counts: Float[Tensor, "s n"]
) -> Float[Tensor, "s k l"]:
    """`compare_rdms` in s resamples that hold the n stimuli `counts` times; a, b as from `aligned`.

    NaN in samples where it is undefined, and where fewer than three different stimuli are left.
    """
    if comparator == "whitened_cosine":
        out = _whitened(a, b, counts)
    else:
        kept = ~a[0].isnan()
        a, b = a[:, kept], b[:, kept]
        step = max(1, HELD // (a.shape[1] * (1 + (len(a) + len(b)) * (comparator in RANKED))))
        parts = [_weighed(a, b, comparator, pair_counts(part)[:, kept]) for part in counts.split(step)]
        out = torch.cat(parts)
    few = (counts > 0).sum(1) < FEWEST_STIMULI
    return out.masked_fill(few[:, None, None], torch.nan) if counts.shape[1] > 2 else out


def pair_counts(counts: Float[Tensor, "s n"]) -> Float[Tensor, "s p"]:
    """How often each pair of different stimuli occurs in each sample."""
    n = counts.shape[1]
    rows, columns = torch.triu_indices(n, n, 1, device=counts.device)
    return counts[:, rows] * counts[:, columns]


def _weighed(a: Tensor, b: Tensor, comparator: str, weights: Tensor) -> Tensor:
    if comparator == "kendall_tau_a":
        return _tau_a(a, b, weights)
    if comparator in RANKED:
        return rank_products(all_ranks(a, weights), all_ranks(b, weights), comparator, weights)
    if comparator == "correlation":
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        total = weights.sum(1)[:, None]
        sum_a, sum_b = weights @ a.T, weights @ b.T
        own = [(weights @ x.square().T, s.square() / total) for x, s in ((a, sum_a), (b, sum_b))]
        cross = _products(a, b, weights) - sum_a[:, :, None] * sum_b[:, None, :] / total[:, :, None]
        norms = [torch.where(raw - taken > ROUNDING * len(a[0]), raw - taken, torch.nan) for raw, taken in own]
    else:
        cross = _products(a, b, weights)
        norms = [torch.where((raw := weights @ x.square().T) > 0, raw, torch.nan) for x in (a, b)]
    return _bounded(cross / (norms[0][:, :, None] * norms[1][:, None, :]).sqrt())


def all_ranks(x: Float[Tensor, "k p"], weights: Float[Tensor, "s p"]) -> Float[Tensor, "s k p"]:
    """Mid-ranks of the pairs of each RDM in each sample."""
    if len(weights) == 1:
        return mid_ranks(x, weights.expand(len(x), -1))[None]
    return torch.stack([mid_ranks(row[None], weights) for row in x], 1)


def _products(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """(s, k, l) sums over pairs of weights a b, by whichever loop is shorter."""
    if len(weights) <= len(a):
        return torch.stack([(a * w) @ b.T for w in weights])
    return torch.stack([weights @ (row * b).T for row in a], 1)


def _bounded(x: Tensor) -> Tensor:
    """Only rounding can lead beyond -1 and 1."""
    return x.clamp(-1, 1)


def rank_products(
    a: Float[Tensor, "s k p"], b: Float[Tensor, "s l p"], comparator: str, weights: Float[Tensor, "s p"]
) -> Float[Tensor, "s k l"]:
    """Spearman's correlation or rho_a from mid-ranks; the mean rank of N values is (N + 1) / 2 whatever is tied."""
    total = weights.sum(1)[:, None, None]
    a, b, w = a - (total + 1) / 2, b - (total + 1) / 2, weights[:, None, :]
    cross = (a * w) @ b.mT
    if comparator == "rho_a":
        return _bounded(12 * cross / (total**3 - total))
    own_a, own_b = ((w * x.square()).sum(2) for x in (a, b))
    square_a, square_b = (torch.where(x > 0, x, torch.nan) for x in (own_a, own_b))
    return _bounded(cross / (square_a[:, :, None] * square_b[:, None, :]).sqrt())


def _tau_a(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum(1)
    of_a, of_b = levels(a), levels(b)
    rows = [
        torch.stack([net_concordance(x[None], y[None], weights) for y in of_b], 1) for x in of_a
    ]  # fmt: skip
    return torch.stack(rows, 1) / (total * (total - 1) / 2)[:, None, None]


def _whitened(a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
    """u' V^-1 v of the pairs present, V being the covariance of their squared distances under independent noise.

    V_(ij),(kl) is proportional to ((e_i - e_j)'(e_k - e_l))^2 (Diedrichsen et al. 2021), and
    u' V^-1 v is proportional to the product of what is left of the full symmetric matrices after the best x_i + x_j is
    added, where the diagonal, which starts from 0, counts too; with all pairs present that is double centring. Copies
    of stimulus i share x_i. With N stimuli in all, t_i = sum_{j != i} w_j u_ij and s = sum_j w_j x_j, the minimum is at
        x_i = -(t_i + s) / (N + 2 - 2 w_i),
    and the product of the residuals is sum_{i != j} w_i w_j u_ij (v_ij + 2 x^v_j). NaN where N + 2 = 2 w_i: one
    stimulus is more than half of such a sample.
    """
    n = counts.shape[1]
    total = counts.sum(1, keepdim=True)
    room = total + 2 - 2 * counts
    room = torch.where(room == 0, torch.nan, room)[:, None, :]
    sides = []
    for vectors in (a, b):
        t = torch.einsum("sj,kij->ski", counts, square(vectors, n))
        common = -(counts[:, None] * t / room).sum(2) / (1 + (counts[:, None] / room).sum(2))
        sides.append((t, -(t + common[:, :, None]) / room))
    (t_a, x_a), (t_b, x_b) = sides
    step = max(1, HELD // a.shape[1])
    raw = [
        (2 * _products(a, b, w), 2 * w @ a.square().T, 2 * w @ b.square().T)
        for w in map(pair_counts, counts.split(step))
    ]
    cross, own_a, own_b = (torch.cat(parts) for parts in zip(*raw, strict=True))
    w = counts[:, None]
    cross = cross + 2 * (w * t_a) @ x_b.mT
    size_a, size_b = own_a, own_b
    own_a, own_b = own_a + 2 * (w * t_a * x_a).sum(2), own_b + 2 * (w * t_b * x_b).sum(2)
    square_a = torch.where(own_a > ROUNDING * size_a, own_a, torch.nan)
    square_b = torch.where(own_b > ROUNDING * size_b, own_b, torch.nan)
    return _bounded(cross / (square_a[:, :, None] * square_b[:, None, :]).sqrt()).to(WORKING)
