"""A loss as a function of the outputs of some samples: its value, its slope, and a root of its curvature."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING
from geomfeat.regimes.training.objective import LOSSES, loss_at_zero, loss_of, prepared_targets


@dataclass(frozen=True, eq=False)
class OutputLoss:
    """ "mse" or "cross-entropy" of n samples, by the conventions of `loss_of` (a mean over samples).

    Attributes:
        targets: (n, C) values for "mse", (n,) classes for "cross-entropy". unit: the loss of outputs 0.
        name: in results; that of the kind, if there is no other.
    """

    kind: str
    targets: Tensor
    unit: float
    name: str = ""

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.targets.shape[0]

    def value(self, f: Tensor, targets: Tensor | None = None) -> Tensor:
        """The loss of outputs f (n, C), a number; `targets`: in another precision or place."""
        return loss_of(f, self.targets if targets is None else targets, self.kind)

    def relative(self, f: Float[Tensor, "n c"]) -> float:
        """The loss of outputs f over that of outputs 0."""
        return float(self.value(f)) / self.unit

    def steepest_at(self, f: Float[Tensor, "n c"]) -> float:
        """Largest eigenvalue that the loss's Hessian in the outputs can have: 2 / n, or 1 / (2 n) with a softmax."""
        return (2.0 if self.kind == "mse" else 0.5) / len(f)

    def slope(self, f: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """dL/df: 2 (f - y) / n, or (p - y) / n with p the softmax and y one-hot rows."""
        if self.kind == "mse":
            return 2 * (f - self.targets) / self.n
        return (f.softmax(1) - functional.one_hot(self.targets, f.shape[1])) / self.n

    def root(self, f: Float[Tensor, "n c"], v: Float[Tensor, "n c"], *, transposed: bool = False) -> Tensor:
        """G v, or G' v, where the loss's Hessian in the outputs is G G'.

        With a softmax p the Hessian of a sample is (diag(p) - p p') / n, and G = (diag(q) - p q') / sqrt(n) with q the
        roots of p, since q' q = 1.
        """
        if self.kind == "mse":
            return v * (2 / self.n) ** 0.5
        p = f.softmax(1)
        q = p.sqrt()
        other = q * (p * v).sum(1, keepdim=True) if transposed else p * (q * v).sum(1, keepdim=True)
        return (q * v - other) / self.n**0.5

    def curved(self, f: Float[Tensor, "n c"], v: Float[Tensor, "n c k"]) -> Float[Tensor, "n c k"]:
        """H v for k directions at once, H the loss's Hessian in the outputs."""
        if self.kind == "mse":
            return v * (2 / self.n)
        p = f.softmax(1)[:, :, None]
        weighted = p * v
        return (weighted - p * weighted.sum(1, keepdim=True)) / self.n


def output_loss(kind: str, targets: Tensor, n_outputs: int) -> OutputLoss:
    """The loss on these targets: (n,) classes or values, or (n, C) values.

    Raises BadInput for another loss, targets that do not fit it or the outputs, and targets that are all zero.

    >>> loss = output_loss("mse", torch.tensor([1.0, 3.0]), 1)
    >>> loss.unit, loss.slope(torch.zeros(2, 1)).flatten().tolist()
    (5.0, [-1.0, -3.0])
    """
    if kind not in LOSSES:
        raise BadInput(
            f"loss={kind!r}: a forecast knows the losses {' and '.join(map(repr, LOSSES))}, or takes a function of "
            "(outputs, targets)"
        )
    ready = prepared_targets(targets, kind, n_outputs, WORKING)
    zeros = torch.zeros(len(ready), n_outputs, dtype=WORKING, device=ready.device)
    return OutputLoss(kind, ready, loss_at_zero(zeros, ready, kind), kind)
