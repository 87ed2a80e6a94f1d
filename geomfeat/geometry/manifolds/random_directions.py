"""The random directions and labels of the capacity problem, in blocks: the first n are the same however many follow."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.dichotomies import BLOCK, cycled, given_dichotomies, labels_of_draws
from geomfeat.numerics import WORKING, as_tensor, stream


@dataclass(frozen=True, eq=False)
class Draws:
    """t: directions. y: labels. strata: which of a fixed set of dichotomies y is, None without such a set."""

    t: Float[Tensor, "draws N"]
    y: Float[Tensor, "draws P"]
    strata: Int[Tensor, "draws"] | None

    def take(self, rows: slice) -> "Draws":
        """Some of the draws."""
        return Draws(self.t[rows], self.y[rows], None if self.strata is None else self.strata[rows])


def given_draws(draws: tuple[Any, Any], n_features: int, n_manifolds: int) -> Draws:
    """(t, y) as `Draws`, or BadInput that says what does not fit."""
    t, y = as_tensor(draws[0], "draws[0]", WORKING), given_dichotomies(draws[1], n_manifolds)
    if t.ndim != 2 or t.shape[1] != n_features or len(t) != len(y) or len(t) < 2:
        raise BadInput(
            f"draws have shapes t {tuple(t.shape)} and y {tuple(y.shape)}, need (n_draws, {n_features}) and "
            f"(n_draws, {n_manifolds}) with n_draws at least 2"
        )
    return Draws(t, y, None)


def random_draws(n_draws: int, n_features: int, n_manifolds: int, dichotomies: Any, seed: int) -> Draws:
    """n_draws standard normal directions with labels; `dichotomies` is a kind or an (m, P) array of +-1.

    Given dichotomies take turns: the first m draws in the order given, then again and again in random order.

    >>> few, many = (random_draws(n, 3, 2, "random", 0) for n in (5, 70))
    >>> bool((few.t == many.t[:5]).all() and (few.y == many.y[:5]).all())
    True
    """
    t = [
        torch.randn(BLOCK, n_features, generator=stream(seed, "capacity", "t", start), dtype=WORKING)
        for start in range(0, n_draws, BLOCK)
    ]
    y, strata = labels_for(dichotomies, n_draws, n_manifolds, seed)
    return Draws(torch.cat(t)[:n_draws], y, strata)


def labels_for(
    dichotomies: Any, n_draws: int, n_manifolds: int, seed: int
) -> tuple[Float[Tensor, "draws P"], Int[Tensor, "draws"] | None]:
    """y of n_draws draws, for a kind of dichotomies or an (m, P) array, and their strata."""
    if isinstance(dichotomies, str):
        return labels_of_draws(dichotomies, n_draws, n_manifolds, seed)
    rows = given_dichotomies(dichotomies, n_manifolds)
    if len(rows) > n_draws:
        raise BadInput(
            f"dichotomies hold {len(rows)} rows for n_draws={n_draws}: raise n_draws, best to 2 or more each"
        )
    strata = cycled(len(rows), n_draws, seed, first_in_order=True).to(rows.device)
    return rows[strata], strata


def blocks_of(n_draws: int, most: int) -> Iterator[slice]:
    """Slices of n_draws rows, up to `most` rows in all.

    >>> [(s.start, s.stop) for s in blocks_of(200, 500)]
    [(0, 200), (200, 400), (400, 500)]
    """
    return (slice(start, min(most, start + n_draws)) for start in range(0, most, n_draws))
