"""Which manifolds are positive: labels of the capacity problem, one row per draw."""

import itertools
import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, stream

KINDS = ("random", "one-vs-rest", "balanced")
# Rows come from streams named by block, so that the first n rows do not depend on how many follow.
BLOCK = 50
# Up to this many different dichotomies (up to sign) all occur equally often, in a random order.
MOST_STRATA = 32


def draw_dichotomies(kind: str, n_draws: int, n_manifolds: int, seed: int = 0) -> Float[Tensor, "draws P"]:
    """n_draws rows of +-1 over the manifolds.

    "random": independent signs (the replica theory's choice). "one-vs-rest": one random class against the others, with
    a random global sign. "balanced": half of the classes positive (with an odd number, half rounded up or down at
    random). The capacity of correlated classes depends strongly on the choice.

    With few classes (up to 32 dichotomies up to sign) the rows run through all of them, each time in a new random
    order: every row has the same distribution as before, but the mean over rows has less error. The first n rows are
    the same for every n_draws.

    Raises BadInput for another kind.

    >>> draw_dichotomies("balanced", 5, 4).sum(1).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    return labels_of_draws(kind, n_draws, n_manifolds, seed)[0]


def labels_of_draws(
    kind: str, n_draws: int, n_manifolds: int, seed: int
) -> tuple[Float[Tensor, "draws P"], Int[Tensor, "draws"] | None]:
    """The rows of `draw_dichotomies`, and which of all dichotomies each is (None: too many to go through)."""
    if kind not in KINDS:
        raise BadInput(f"dichotomies={kind!r}: use one of {', '.join(map(repr, KINDS))}, or an (m, P) array of +-1")
    every = _every(kind, n_manifolds)
    blocks = [stream(seed, "capacity", "y", start) for start in range(0, n_draws, BLOCK)]
    sign = torch.cat([torch.randint(0, 2, (BLOCK, 1), generator=noise) for noise in blocks])[:n_draws] * 2 - 1
    if every is not None:
        which = cycled(len(every), n_draws, seed)
        return every[which] * sign, which
    return torch.cat([_block(kind, n_manifolds, noise) for noise in blocks])[:n_draws] * sign, None


def _block(kind: str, n_manifolds: int, noise: torch.Generator) -> Tensor:
    if kind == "random":
        return torch.randint(0, 2, (BLOCK, n_manifolds), generator=noise).to(WORKING) * 2 - 1
    positive = 1 if kind == "one-vs-rest" else n_manifolds // 2
    order = torch.rand(BLOCK, n_manifolds, generator=noise, dtype=WORKING).argsort(1)
    return torch.where(order < positive, 1.0, -1.0).to(WORKING)


def _every(kind: str, n_manifolds: int) -> Tensor | None:
    """All dichotomies of a kind up to sign, or None where there are more than MOST_STRATA."""
    half = n_manifolds // 2
    number = {
        "random": 2.0 ** (n_manifolds - 1),
        "one-vs-rest": n_manifolds,
        "balanced": math.comb(n_manifolds, half) / (2 if 2 * half == n_manifolds else 1),
    }[kind]
    if number > MOST_STRATA:
        return None
    sizes = {"random": range(n_manifolds + 1), "one-vs-rest": [1], "balanced": [half]}[kind]
    rows = []
    for positive in itertools.chain.from_iterable(itertools.combinations(range(n_manifolds), s) for s in sizes):
        row = [1.0 if i in positive else -1.0 for i in range(n_manifolds)]
        if [-v for v in row] not in rows:
            rows.append(row)
    return torch.tensor(rows, dtype=WORKING)


def cycled(m: int, n: int, seed: int, *, first_in_order: bool = False) -> Int[Tensor, "draws"]:
    """n indices that run through 0..m-1 again and again, each time in a new random order."""
    turns = [torch.randperm(m, generator=stream(seed, "capacity", "order", turn)) for turn in range(-(-n // m))]
    if first_in_order:
        turns[0] = torch.arange(m)
    return torch.cat(turns)[:n]


def given_dichotomies(y: Any, n_manifolds: int) -> Float[Tensor, "m P"]:
    """`y` as a float64 matrix of +-1 (a vector is one dichotomy), or BadInput that says what is wrong with it."""
    out = as_tensor(y, "dichotomies", WORKING)
    out = out[None] if out.ndim == 1 else out
    if out.ndim != 2 or out.shape[1] != n_manifolds or len(out) == 0:
        raise BadInput(f"dichotomies have shape {tuple(out.shape)}, need (m, {n_manifolds}): a row per dichotomy")
    if not torch.all(out.abs() == 1):
        raise BadInput("dichotomies must be +1 or -1 in every entry")
    return out
