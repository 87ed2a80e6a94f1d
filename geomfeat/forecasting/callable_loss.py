"""A loss of the user's own as a function of the outputs, its slope and curvature by automatic differentiation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.forecasting.output_loss import OutputLoss
from geomfeat.numerics import WORKING, safe_eigh, stream
from geomfeat.regimes.training.objective import prepared_targets

OWN = "function"  # the kind of such losses
MOST_TOGETHER = 2048  # rows n C of a loss that does not fall apart into those of samples
SAME = 1e-9  # relative difference that is rounding

Function = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class CallableLoss(OutputLoss):
    """A function (outputs, targets) that returns one number, or one for each sample, whose mean is then the loss.

    Its curvature is the positive part of its Hessian in the outputs: that of each sample where the loss is a sum over
    samples, else the whole one. Directions of negative curvature are left out, as they make no step unstable.

    Attributes:
        function: it. by_sample: whether it is a sum over samples. name: of the function.
    """

    function: Function = field(kw_only=True)
    by_sample: bool = field(kw_only=True)
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def value(self, f: Tensor, targets: Tensor | None = None) -> Tensor:
        """The loss of outputs f (n, C), a number."""
        return value_of(self.function, f, self.targets if targets is None else targets)

    def slope(self, f: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """dL/df."""
        with torch.enable_grad():
            at = f.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.value(at), at, allow_unused=True, materialize_grads=True)
        return slope

    def steepest_at(self, f: Float[Tensor, "n c"]) -> float:
        """Largest eigenvalue of the loss's Hessian at f."""
        return float(self._axes(f)[0].max())

    def root(self, f: Float[Tensor, "n c"], v: Float[Tensor, "n c"], *, transposed: bool = False) -> Tensor:
        """G v with G the symmetric root of the curvature, so that `transposed` is the same."""
        values, vectors = self._axes(f)
        w = v.reshape(*values.shape, 1)
        return (vectors @ (values.sqrt()[..., None] * (vectors.mT @ w))).view_as(v)

    def curved(self, f: Float[Tensor, "n c"], v: Float[Tensor, "n c k"]) -> Float[Tensor, "n c k"]:
        """H v for k directions at once, H the curvature."""
        values, vectors = self._axes(f)
        w = v.reshape(*values.shape, v.shape[-1])
        return (vectors @ (values[..., None] * (vectors.mT @ w))).reshape(v.shape)

    def _axes(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues and eigenvectors of the curvature: (n, C) and (n, C, C), or (1, n C) and (1, n C, n C)."""
        if self._known.get("at") is not f:
            values, vectors = safe_eigh(self._hessian(f))
            self._known.update(at=f, axes=(values.clamp_min(0), vectors))
        return self._known["axes"]

    def _hessian(self, f: Tensor) -> Tensor:
        with torch.enable_grad():
            at = f.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.value(at), at, create_graph=True)
            parts = slope.sum(0) if self.by_sample else slope.flatten()
            if not slope.requires_grad:  # linear in the outputs
                rows = [torch.zeros_like(at) for _ in parts]
            else:
                rows = [
                    torch.autograd.grad(part, at, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
                    for part in parts
                ]
        found = torch.stack(rows, 1) if self.by_sample else torch.stack(rows).flatten(1)[None]
        return (found + found.mT) / 2


def callable_loss(function: Function, targets: Tensor, n_outputs: int) -> CallableLoss:
    """The loss by this function on these targets (n, ...), which it gets as they are, real numbers in float64.

    Raises BadInput for what does not return one number or one for each sample, has no gradient, or is not positive and
    finite at outputs 0, which is the unit of relative losses.

    >>> loss = callable_loss(lambda f, y: (f - y).square().sum(1), torch.tensor([[1.0], [3.0]]), 1)
    >>> zero = torch.zeros(2, 1, dtype=WORKING)
    >>> loss.unit, loss.slope(zero).flatten().tolist(), loss.steepest_at(zero)
    (5.0, [-1.0, -3.0], 1.0)
    """
    ready = prepared_targets(targets, function, n_outputs, WORKING)
    zeros = torch.zeros(len(ready), n_outputs, dtype=WORKING, device=ready.device)
    at = zeros.clone().requires_grad_()
    with torch.enable_grad():
        value = value_of(function, at, ready)
    if not value.requires_grad:
        raise BadInput(
            "loss(outputs, targets) has no gradient in the outputs: compute it from them by torch operations alone, "
            "without item(), detach() or numpy"
        )
    unit = float(value.detach())
    if not (unit > 0 and math.isfinite(unit)):
        raise BadInput(
            f"loss(outputs, targets) is {unit:g} at outputs 0, so a share of it has no meaning: add a constant, so "
            "that it is positive there"
        )
    together = not _falls_apart(function, ready, zeros)
    if together and zeros.numel() > MOST_TOGETHER:
        raise BadInput(
            f"the loss of one sample depends on the outputs of others, so its curvature has {zeros.numel()} rows: give "
            f"n_probes in options, for at most {MOST_TOGETHER // n_outputs} samples"
        )
    return CallableLoss(OWN, ready, unit, name_of(function), function=function, by_sample=not together)


def value_of(function: Function, f: Tensor, targets: Tensor) -> Tensor:
    """The number that a function says of outputs: its mean where it says one for each sample."""
    value = function(f, targets)
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.reshape(())
    if isinstance(value, Tensor) and value.shape in ((len(f),), (len(f), 1)):
        return value.mean()
    what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise BadInput(f"loss(outputs, targets) must return one number, or one for each of {len(f)} samples, got {what}")


def name_of(function: Callable[..., object]) -> str:
    """What a loss is called in results.

    >>> name_of(torch.nn.HuberLoss()), name_of(torch.nn.functional.huber_loss)
    ('HuberLoss', 'huber_loss')
    """
    return str(getattr(function, "__name__", type(function).__name__))


def sees_no_mean(function: Function, f: Tensor, targets: Tensor) -> bool:
    """Whether the mean over the outputs of a sample makes no difference, as with a softmax."""
    if f.shape[1] < 2:
        return False
    shift = torch.linspace(-1.0, 2.0, len(f), dtype=f.dtype, device=f.device)[:, None]
    at = f.detach()
    one, other = (float(value_of(function, x, targets).detach()) for x in (at, at + shift))
    return abs(one - other) <= SAME * abs(one)


def _falls_apart(function: Function, targets: Tensor, zeros: Tensor) -> bool:
    """Whether the slope of a sample depends on its own outputs alone, at random outputs."""
    generator = stream(0, "forecast", "loss")
    start = torch.randn(zeros.shape, generator=generator, dtype=WORKING).to(zeros)
    with torch.enable_grad():
        at = start.requires_grad_()
        (slope,) = torch.autograd.grad(value_of(function, at, targets), at, create_graph=True)
        if not slope.requires_grad:
            return True
        for own in (0, len(zeros) // 2, len(zeros) - 1):
            weights = torch.randn(zeros.shape[1], generator=generator, dtype=WORKING).to(zeros)
            (bent,) = torch.autograd.grad(
                slope[own] @ weights, at, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            others = bent.clone()
            others[own] = 0
            if float(others.norm()) > SAME * max(float(bent.norm()), float(slope.detach().norm())):
                return False
    return True
