"""Slow definition of errors over data: the numbers again without each part, from each half of the draws, by loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def variance(number: Callable[[np.ndarray, slice], float], parts: Sequence[np.ndarray], n: int, n_draws: int) -> float:
    """Variance over the data of number(rows, draws), `parts` of the n rows left out (Busing et al. 1999, eq. 7).

    The squared deviation of every pseudo-value is replaced by the product of those from the two halves of the draws.
    """
    every, moved = np.arange(n), []
    for draws in (slice(0, n_draws // 2), slice(n_draws // 2, n_draws)):
        whole, pseudo, center = number(every, draws), [], 0.0
        for part in parts:
            h, without = n / len(part), number(np.setdiff1d(every, part), draws)
            pseudo.append(h * whole - (h - 1) * without)
            center += whole - (1 - len(part) / n) * without
        moved.append(np.array(pseudo) - center)
    weights = np.array([n / len(part) - 1 for part in parts])
    return float(np.mean(moved[0] * moved[1] / weights))
