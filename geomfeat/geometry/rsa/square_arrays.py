"""Whether a square array is one dissimilarity matrix, or the upper triangles of as many matrices as they have pairs."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from geomfeat.errors import BadInput

# Differences between the two halves of a matrix, relative to its largest value: from rounding, and from carelessness.
ROUNDING, NEARLY = 1e-6, 1e-2


def conditions_of(pairs: int) -> int:
    """n with n (n - 1) / 2 pairs; 0 where no number of conditions has that many.

    >>> [conditions_of(pairs) for pairs in (1, 3, 4, 6)]
    [2, 3, 0, 4]
    """
    n = (1 + isqrt(1 + 8 * pairs)) // 2
    return n if n * (n - 1) // 2 == pairs else 0


def is_dissimilarity_matrix(values: Tensor) -> bool:
    """Whether an array is symmetric with a diagonal of zeros or NaN, up to rounding; NaN in both halves, or in none.

    >>> is_dissimilarity_matrix(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    True
    """
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not bool(values.isfinite().any()):
        return False
    known, blank = values.nan_to_num(), values.isnan()
    slack = ROUNDING * float(known.abs().max())
    return (
        torch.equal(blank, blank.T)
        and float((known - known.T).abs().max()) <= slack
        and float(known.diagonal().abs().max()) <= slack
    )


def are_triangles(values: Tensor) -> bool:
    """Whether an array is upper triangles, a row each, and no dissimilarity matrix.

    Raises BadInput for a square array that seems to be a matrix but not of dissimilarities: symmetric with a nonzero
    diagonal, nearly symmetric, or with only one half filled.

    >>> are_triangles(torch.tensor([[1.0, 2.0, 3.0], [5.0, 1.0, 0.5], [4.0, 9.0, 7.0]]))
    True
    """
    pairs = values.shape[1]
    if not conditions_of(pairs):
        return False
    if len(values) != pairs or pairs == 1:
        return True
    if is_dissimilarity_matrix(values):
        return False
    why = _like_a_matrix(values)
    if why:
        raise BadInput(
            f"an array of shape ({pairs}, {pairs}) is {why}: these are no dissimilarities of {pairs} conditions, and "
            f"no {pairs} upper triangles of {conditions_of(pairs)} conditions either, as it seems. Give a symmetric "
            "matrix of dissimilarities with zeros on its diagonal to RDMs.of_matrices (of correlations r, 1 - r; of "
            "half a matrix m, m + m.T); of triangles, (subjects, pairs), stack_rdms([RDMs(row) for row in rows])"
        )
    return True


def _like_a_matrix(values: Tensor) -> str:
    """What a square array has of a matrix; "" for nothing."""
    blank = values.isnan() | (values == 0)
    above = torch.ones_like(blank).triu(1)
    if bool(blank[above].all()) != bool(blank[above.T].all()):
        return "filled in one half only"
    both = above & values.isfinite() & values.T.isfinite()
    largest = float(values[values.isfinite()].abs().max()) if bool(both.any()) else 0.0
    if largest and float((values - values.T)[both].abs().max()) <= NEARLY * largest:
        return "symmetric, or nearly so"
    return ""
