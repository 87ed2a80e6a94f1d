"""What the centres of manifolds share: their correlation, and the low-rank structure that makes it.

Cohen et al. 2020 (Nat. Commun. 11 746): the mean-field theory takes the centres as uncorrelated, so a few directions
that all centres share are projected out of the data first.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.numerics import WORKING

# Centres that a projection in float64 brings below this share of the longest are its rounding; that of the points is
# `floor`.
GONE = 1e-10


def center_correlation(centers: Float[Tensor, "P r"]) -> float:
    """Mean |cos| over pairs of centres (0..1); NaN for fewer than two, or where one is the origin.

    Cohen et al. 2020 take it of centres minus their common mean. P centred centres never are all orthogonal: the least
    possible is about 1 / (P - 1), and two are always opposite (1).

    >>> center_correlation(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
    0.3333333333333333
    """
    lengths = torch.linalg.vector_norm(centers.to(WORKING), dim=1, keepdim=True)
    if len(centers) < 2 or not bool((lengths > 0).all()):
        return float("nan")
    unit = centers.to(WORKING) / lengths
    cosines = (unit @ unit.T).abs()
    return float((cosines.sum() - cosines.diagonal().sum()) / (len(unit) * (len(unit) - 1)))


def shared_directions(centers: Float[Tensor, "P r"], rank: int) -> Float[Tensor, "rank r"]:
    """Orthonormal directions with most of the centres' energy: their first `rank` right singular vectors."""
    return torch.linalg.svd(centers.to(WORKING), full_matrices=False)[2][:rank]


def without(x: Float[Tensor, "k r"], directions: Float[Tensor, "rank r"]) -> Float[Tensor, "k r"]:
    """`x` projected off orthonormal directions."""
    return x - (x @ directions.T) @ directions


def least_correlated_rank(centers: Float[Tensor, "P r"], floor: float = 0.0) -> int:
    """How many shared directions to remove (0..P-2) so that the remaining centres are least correlated.

    None that would leave a centre shorter than `floor`, the rounding of the points. P centred centres span P - 1
    dimensions; P - 2 is the most that leaves them a direction (and then all on one line).
    """
    most = max(0, len(centers) - 2)
    basis = shared_directions(centers, most)
    least_length = max(floor, GONE * float(torch.linalg.vector_norm(centers, dim=1).max()))
    best, least = 0, center_correlation(centers)
    for rank in range(1, len(basis) + 1):
        left = without(centers, basis[:rank])
        if bool((torch.linalg.vector_norm(left, dim=1) <= least_length).any()):
            break
        here = center_correlation(left)
        if here < least:
            best, least = rank, here
    return best
