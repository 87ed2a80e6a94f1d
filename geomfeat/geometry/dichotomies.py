"""Which manifolds are positive: labels of the capacity problem, one row per draw."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, stream

KINDS = ("random", "one-vs-rest", "balanced")


def draw_dichotomies(kind: str, n_draws: int, n_manifolds: int, seed: int = 0) -> Float[Tensor, "draws P"]:
    """n_draws rows of +-1 over the manifolds.

    "random": independent signs (the replica theory's choice). "one-vs-rest": one random class against the others, with
    a random global sign. "balanced": half of the classes positive (with an odd number, half rounded up or down at
    random). The capacity of correlated classes depends strongly on the choice.

    Raises BadInput for another kind.

    >>> draw_dichotomies("balanced", 5, 4).sum(1).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    if kind not in KINDS:
        raise BadInput(
            f"dichotomies={kind!r}: use one of {', '.join(map(repr, KINDS))}, or an (n_draws, P) array of +-1"
        )
    noise = stream(seed, "capacity", "y")
    sign = torch.randint(0, 2, (n_draws, 1), generator=noise).to(WORKING) * 2 - 1
    if kind == "random":
        return torch.randint(0, 2, (n_draws, n_manifolds), generator=noise).to(WORKING) * 2 - 1
    positive = 1 if kind == "one-vs-rest" else n_manifolds // 2
    order = torch.rand(n_draws, n_manifolds, generator=noise, dtype=WORKING).argsort(1)
    return torch.where(order < positive, 1.0, -1.0).to(WORKING) * sign


def given_dichotomies(y: Any, n_draws: int | None, n_manifolds: int) -> Float[Tensor, "draws P"]:
    """`y` as a float64 matrix of +-1, or BadInput that says what is wrong with it."""
    out = as_tensor(y, "dichotomies", WORKING)
    if out.ndim != 2 or out.shape[1] != n_manifolds or (n_draws is not None and out.shape[0] != n_draws):
        rows = "n_draws" if n_draws is None else n_draws
        raise BadInput(f"dichotomies have shape {tuple(out.shape)}, need ({rows}, {n_manifolds}): a row per draw")
    if not torch.all(out.abs() == 1):
        raise BadInput("dichotomies must be +1 or -1 in every entry")
    return out
