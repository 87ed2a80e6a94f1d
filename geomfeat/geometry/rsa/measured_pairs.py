"""Similarity of RDMs of which each lacks pairs of its own: two of them are compared on the pairs that both have."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geomfeat.memory import require_memory

# Pairs that a similarity needs, as many as three stimuli have.
FEWEST_PAIRS = 3


def groups_of_rows(vectors: Float[Tensor, "k p"]) -> list[tuple[Tensor, Bool[Tensor, "p"]]]:
    """(rows, measured pairs) of the RDMs that lack the same pairs.

    >>> groups_of_rows(torch.tensor([[1.0, torch.nan], [2.0, 3.0], [4.0, torch.nan]]))[0][0].tolist()
    [0, 2]
    """
    masks, group = (~vectors.isnan()).unique(dim=0, return_inverse=True)
    return [((group == i).nonzero()[:, 0], mask) for i, mask in enumerate(masks)]


def pairs_left(a: Float[Tensor, "k p"], b: Float[Tensor, "l p"]) -> str:
    """A sentence on how many pairs there are to compare, or ""."""
    total = a.shape[1]
    shared = (~a.isnan()).double() @ (~b.isnan()).double().T
    low, high = int(shared.min()), int(shared.max())
    if low == total:
        return ""
    few = int((shared < min(FEWEST_PAIRS, total)).sum())
    span = f"{low} to {high}" if low < high else str(low)
    lost = f"; {few} have fewer than {FEWEST_PAIRS} and are NaN" * (few > 0)
    return f"two RDMs are compared on the pairs of conditions that both have: {span} of {total}{lost}"


def whitened_on_pairs(
    a: Float[Tensor, "k q"], b: Float[Tensor, "l q"], kept: Bool[Tensor, "p"], n: int
) -> Float[Tensor, "k l"]:
    """u' V^-1 v / sqrt(u' V^-1 u v' V^-1 v) on the q pairs that are kept of n conditions.

    V_(ij),(kl) = ((e_i - e_j)'(e_k - e_l))^2; it is singular for no set of pairs.
    """
    rows, columns = (index[kept] for index in torch.triu_indices(n, n, 1, device=a.device))
    require_memory(
        24 * len(rows) ** 2,
        f"the covariance of {len(rows)} distances",
        "use another comparator, or take() conditions without missing pairs",
        a.device,
    )
    first, second = (torch.nn.functional.one_hot(index, n).to(a.dtype) for index in (rows, columns))
    contrasts = first - second
    factor = torch.linalg.cholesky((contrasts @ contrasts.T).square_())
    u, v = (torch.linalg.solve_triangular(factor, x.T, upper=False) for x in (a, b))
    sizes = u.norm(dim=0)[:, None] * v.norm(dim=0)
    return (u.T @ v / torch.where(sizes > 0, sizes, torch.nan)).clamp(-1, 1)
