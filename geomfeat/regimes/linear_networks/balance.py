"""Balance of two adjacent linear layers, and networks that have it.

Gradient flow conserves B = W2'W2 - W1 W1'. A pair is lambda-balanced when B = lambda I: lambda > 0 puts the weight in
the second layer, lambda < 0 in the first, and |lambda| sets how lazy the pair is (Domine et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, require_finite, stream
from geomfeat.precision import precision_of


@dataclass(frozen=True)
class Balance(BaseResult):
    """The lambda nearest to W2'W2 - W1 W1' = lambda I, and what is left.

    Args:
        value: lambda, the mean of the diagonal.
        residual: |W2'W2 - W1 W1' - lambda I| / (|W2'W2| + |W1 W1'|), Frobenius, in [0, 1]; 0 = balanced.
    """

    value: float
    residual: float


def layer_balance(w1: Tensor, w2: Tensor) -> Balance:
    """Balance of adjacent weights `w1` (hidden, inputs) and `w2` (outputs, hidden) (Domine et al. 2024, def. 2.1).

    BadInput for shapes that do not chain. Zero weights are balanced with lambda = 0.

    >>> layer_balance(torch.eye(2), 2 * torch.eye(2))
    Balance(value=3.0, residual=0.0)
    """
    w1, w2 = chained(w1, w2)
    upper, lower = w2.mT @ w2, w1 @ w1.mT
    off = upper - lower
    value = float(off.diagonal().mean())
    size = float(upper.norm() + lower.norm())
    rest = float((off - value * torch.eye(len(off), dtype=off.dtype, device=off.device)).norm())
    return Balance(value, rest / size if size > 0 else 0.0)


def chained(w1: Tensor, w2: Tensor) -> tuple[Tensor, Tensor]:
    """Both weights in float64, or BadInput where the hidden widths differ."""
    w1, w2 = (require_finite(as_tensor(w, name, WORKING), name) for w, name in ((w1, "w1"), (w2, "w2")))
    if w1.ndim != 2 or w2.ndim != 2 or w1.shape[0] != w2.shape[1] or 0 in (*w1.shape, *w2.shape):
        raise BadInput(
            f"w1 (hidden, inputs) and w2 (outputs, hidden) must share the hidden width, got {tuple(w1.shape)} and "
            f"{tuple(w2.shape)}: pass weights of adjacent layers, as torch.nn.Linear stores them"
        )
    return w1, w2


def balanced_factors(
    product: Float[Tensor, "outputs inputs"], hidden: int, balance: float, *, seed: int = 0
) -> tuple[Float[Tensor, "hidden inputs"], Float[Tensor, "outputs hidden"]]:
    """Weights (w1, w2), float64, with w2 w1 = `product` and W2'W2 - W1 W1' = `balance` I.

    With product = U S V' and a random rotation R of the hidden units: W1 = R S1 V', W2 = U S2 R', where
    s2^2, s1^2 = (sqrt(lambda^2 + 4 s^2) +- lambda)/2 (Domine et al. 2024, appendix on lambda-balanced weights).
    BadInput for an infeasible balance (lambda > 0 needs hidden <= outputs, lambda < 0 hidden <= inputs) and for a
    product of rank above `hidden`.

    >>> w1, w2 = balanced_factors(torch.eye(3), 3, balance=2.0)
    >>> round(layer_balance(w1, w2).value, 9)
    2.0
    """
    unit = torch.finfo(precision_of(product)).eps
    product = require_finite(as_tensor(product, "product", WORKING), "product")
    outputs, inputs = product.shape
    unit *= max(product.shape)
    _check_feasible(inputs, hidden, outputs, balance)
    u, s, vh = torch.linalg.svd(product)
    if len(s) > hidden and float(s[hidden]) > unit * float(s[0]):
        rank = int((s > unit * s[0]).sum())
        raise BadInput(f"product has rank {rank}, and hidden={hidden} units carry at most that many: widen the layer")
    padded = torch.zeros(max(hidden, len(s)), dtype=WORKING, device=product.device)
    padded[: len(s)] = s
    padded = padded[:hidden]
    # The larger factor first, and the smaller one as s / larger: their difference would cancel for |lambda| >> s.
    larger = ((torch.sqrt(balance**2 + 4 * padded.square()) + abs(balance)) / 2).sqrt()
    smaller = torch.where(larger > 0, padded / larger.clamp_min(torch.finfo(WORKING).tiny), torch.zeros_like(larger))
    s1, s2 = (smaller, larger) if balance >= 0 else (larger, smaller)
    rotation = _orthogonal(hidden, seed, "hidden").to(product.device)
    k1, k2 = min(hidden, inputs), min(hidden, outputs)
    return (rotation[:, :k1] * s1[:k1]) @ vh[:k1], (u[:, :k2] * s2[:k2]) @ rotation[:, :k2].mT


def balanced_network(
    inputs: int,
    hidden: int,
    outputs: int,
    balance: float,
    singular_values: float | Sequence[float] = 1e-2,
    *,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Random lambda-balanced weights (w1, w2), float64: directions uniform, singular values of w2 w1 as given.

    A single number is repeated min(inputs, hidden, outputs) times. BadInput as in `balanced_factors`.

    >>> w1, w2 = balanced_network(10, 5, 4, balance=-3.0, seed=1)
    >>> w1.shape, w2.shape
    (torch.Size([5, 10]), torch.Size([4, 5]))
    """
    _check_feasible(inputs, hidden, outputs, balance)
    most = min(inputs, hidden, outputs)
    s = as_tensor(singular_values, "singular_values", WORKING)
    s = s.expand(most) if s.ndim == 0 else s
    given = s.tolist()
    if s.ndim != 1 or len(s) > most or not bool((s >= 0).all() & torch.isfinite(s).all()):
        raise BadInput(
            f"singular_values must be up to min(inputs, hidden, outputs) = {most} numbers >= 0, got {given}: shorten it"
        )
    u, v = _orthogonal(outputs, seed, "outputs"), _orthogonal(inputs, seed, "inputs")
    return balanced_factors((u[:, : len(s)] * s) @ v[:, : len(s)].mT, hidden, balance, seed=seed)


def _check_feasible(inputs: int, hidden: int, outputs: int, balance: float) -> None:
    if min(inputs, hidden, outputs) < 1:
        raise BadInput(f"inputs, hidden and outputs must be at least 1, got {inputs}, {hidden}, {outputs}")
    if not abs(balance) < float("inf"):
        raise BadInput(f"balance must be a finite number, got {balance}: large |balance| is lazy already")
    if balance > 0 and hidden > outputs:
        raise BadInput(
            f"balance={balance} > 0 makes W2'W2 positive definite, which needs hidden <= outputs, got hidden={hidden}, "
            f"outputs={outputs}: use balance <= 0 or a hidden layer of at most {outputs}"
        )
    if balance < 0 and hidden > inputs:
        raise BadInput(
            f"balance={balance} < 0 makes W1 W1' positive definite, which needs hidden <= inputs, got hidden={hidden}, "
            f"inputs={inputs}: use balance >= 0 or a hidden layer of at most {inputs}"
        )


def _orthogonal(n: int, seed: int, name: str) -> Tensor:
    """Uniform orthogonal matrix (n, n): QR with the signs of R's diagonal made positive (Mezzadri 2007)."""
    q, r = torch.linalg.qr(torch.randn(n, n, generator=stream(seed, "balanced network", name), dtype=WORKING))
    return q * r.diagonal().sign()
