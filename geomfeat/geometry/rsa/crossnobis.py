"""Crossnobis distances from the mean patterns of conditions in runs, each run weighted by its trials.

The difference v_r of two conditions' means in run r, of n_a and n_b trials, has the noise variance S / w_r with
w_r = n_a n_b / (n_a + n_b): the distance is the mean of v_r' P v_s / d over all pairs of different runs, weighted by
w_r w_s. It needs no other conditions, and what is common to all of a run drops out. A condition without trials in a
run has n = 0 there, so that each pair uses the runs that have both.
"""

from collections.abc import Hashable, Sequence
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.geometry.rsa.products import gram, squared_distances

# Runs that a pair needs: a product of different runs.
FEWEST_RUNS = 2


def cell_means(
    x: Float[Tensor, "n d"], condition: Int[Tensor, "n"], run: Int[Tensor, "n"], n_conditions: int, n_runs: int
) -> tuple[Float[Tensor, "runs conditions d"], Float[Tensor, "runs conditions"]]:
    """Mean pattern of each condition in each run (0 where there is none), and of how many samples it is."""
    cell = run * n_conditions + condition
    sizes = torch.bincount(cell, minlength=n_runs * n_conditions).to(x.dtype)
    shape = (n_runs, n_conditions)
    if bool((sizes == 1).all()):
        return torch.empty_like(x).index_copy_(0, cell, x).reshape(*shape, -1), sizes.reshape(shape)
    sums = x.new_zeros(len(sizes), x.shape[1]).index_add_(0, cell, x)
    return (sums / sizes.clamp_min(1)[:, None]).reshape(*shape, -1), sizes.reshape(shape)


def pair_weights(counts: Float[Tensor, "runs conditions"]) -> Float[Tensor, "runs pairs"]:
    """n_a n_b / (n_a + n_b) of the two conditions of each pair in each run; 0 where one of them is missing.

    >>> pair_weights(torch.tensor([[1.0, 1.0], [8.0, 8.0], [8.0, 0.0]])).tolist()
    [[0.5], [4.0], [0.0]]
    """
    n = counts.shape[1]
    rows, columns = torch.triu_indices(n, n, 1, device=counts.device)
    both = counts[:, rows] * counts[:, columns]
    return both / (counts[:, rows] + counts[:, columns]).clamp_min(1)


def crossnobis_distances(
    means: Float[Tensor, "*batch runs conditions d"],
    counts: Float[Tensor, "runs conditions"],
    precision: Tensor | None = None,
) -> Float[Tensor, "*batch pairs"]:
    """Distances of all pairs; NaN for pairs that fewer than two runs have; means, counts as of `cell_means`."""
    n_runs, _, d = means.shape[-3:]
    # A pattern common to all conditions of a run drops out of every difference; it only costs digits.
    if bool((counts == counts[0, 0]).all()):
        by_condition = means.transpose(-3, -2)
        beside = torch.sub(by_condition, by_condition.mean(-3, keepdim=True), out=means.new_empty(by_condition.shape))
        # The sum over r != s of B_r P B_s' is (sum B) P (sum B)' less the sum of B_r P B_r'.
        products = gram(beside.sum(-2, keepdim=True), precision) - gram(beside, precision)
        return squared_distances(products)[0] / (n_runs * (n_runs - 1) * d)
    there = (counts > 0)[..., None]
    beside = (means - means.sum(-2, keepdim=True) / there.sum(-2, keepdim=True).clamp_min(1)) * there
    left = beside
    if precision is not None:
        left = beside * precision if precision.ndim == 1 else beside @ precision
    weights = pair_weights(counts)
    total: Tensor | float = 0.0
    for r in range(n_runs - 1):
        later = left[..., r, :, :] @ beside[..., r + 1 :, :, :].flatten(-3, -2).mT
        between = squared_distances(later.unflatten(-1, (-1, later.shape[-2])).transpose(-3, -2))[0]
        total = total + 2 * weights[r] * (weights[r + 1 :] * between).sum(-2)
    return total / torch.where(measured(counts), sum_of_products(weights), torch.nan) / d


def measured(counts: Float[Tensor, "runs conditions"]) -> Tensor:
    """(pairs,) whether at least two runs have both conditions."""
    return (pair_weights(counts) > 0).sum(0) >= FEWEST_RUNS


def sum_of_products(weights: Float[Tensor, "runs pairs"]) -> Float[Tensor, "pairs"]:
    """Sum of w_r w_s over r != s."""
    return weights.sum(0).square() - weights.square().sum(0)


def gaps(
    counts: Float[Tensor, "runs conditions"], conditions: Sequence[Hashable], runs: Sequence[Hashable]
) -> list[str]:
    """What is missing, in sentences: conditions in runs, and pairs that have no distance.

    >>> gaps(torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]), "abc", ["first", "second"])[1]
    "2 of 3 pairs have no distance (NaN), since fewer than 2 runs have both conditions: the first is 'a' and 'c'"
    """
    empty = (counts == 0).nonzero().tolist()
    if not empty:
        return []
    run, condition = empty[0]
    notes = [
        f"{len(empty)} of {counts.numel()} conditions in runs have no trial (the first: {conditions[condition]!r} in "
        f"run {runs[run]!r}): each pair uses the runs that have both"
    ]
    lost = (~measured(counts)).nonzero()[:, 0].tolist()
    if lost:
        a, b = list(combinations(conditions, 2))[lost[0]]
        notes.append(
            f"{len(lost)} of {len(pair_weights(counts)[0])} pairs have no distance (NaN), since fewer than "
            f"{FEWEST_RUNS} runs have both conditions: the first is {a!r} and {b!r}"
        )
    return notes
