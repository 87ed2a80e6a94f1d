"""The loss of f = (net(w0 + gamma u) - net(w0)) / gamma as a function of the displacement u = (w - w0) / gamma.

Gradient descent on u with rate eta0 is gradient descent on w with rate eta0 gamma^2, the scaling that keeps the time
to learn independent of gamma (Chizat et al. 2019, alpha = 1/gamma). It also keeps the digits: u is
O(1) at every gamma, so small weight changes are accumulated at full precision and never lost under the size of w0.
Uncentred, f = net(w0 + gamma u) / gamma. Weight decay adds (weight_decay / 2) |w|^2 to the relative loss.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout, call, call_with, differentiable_attention, output_matrix, uses_of
from geomfeat.models.modules import real_pairs
from geomfeat.models.nested_inputs import take
from geomfeat.models.refused_inputs import explained
from geomfeat.numerics import require_finite
from geomfeat.regimes.training.class_targets import as_classes, as_row, as_values

Loss = str | Callable[[Tensor, Tensor], Tensor]
LOSSES = ("mse", "cross-entropy")
CURVATURE_SAMPLES = 512  # the curvature is estimated on at most so many samples, evenly spaced
EVALUATE_AT_ONCE = 2048  # samples per pass where no gradient is needed


def centred_one_hot(
    classes: Tensor, n_classes: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n n_classes"]:
    """One-hot rows minus 1/C: 1 - 1/C at the class, -1/C elsewhere.

    >>> centred_one_hot(torch.tensor([1]), 2).tolist()
    [[-0.5, 0.5]]
    """
    return F.one_hot(classes.long(), n_classes).to(dtype) - 1.0 / n_classes


def loss_of(f: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The unscaled loss, a scalar: for "mse" the mean over samples of the SUM of squares over outputs."""
    if isinstance(loss, str) and f.shape[0] != targets.shape[0]:
        raise BadInput(f"targets have {targets.shape[0]} entries, but there are outputs of {f.shape[0]} samples")
    if loss == "mse":
        return (f - targets).square().sum(1).mean()
    if loss == "cross-entropy":
        return F.cross_entropy(f, targets)
    assert callable(loss)
    value = loss(f, targets)
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise BadInput(f"loss(f, targets) must return one number, got {what}: take the mean over samples and outputs")
    return value


def loss_at_zero(f: Tensor, targets: Tensor, loss: Loss) -> float:
    """The loss of outputs 0 in the shape of f, the unit of relative losses; BadInput unless positive and finite."""
    unit = float(loss_of(torch.zeros_like(f), targets, loss))
    if not unit > 0 or not math.isfinite(unit):
        raise BadInput(
            f"the loss at f = 0 is {unit}, so a loss relative to it has no meaning: the targets are all zero, "
            "or the loss is not positive"
        )
    return unit


def require_gradient(f: Tensor, targets: Tensor, loss: Loss) -> None:
    """BadInput for a loss that torch cannot differentiate in f."""
    with torch.enable_grad():
        value = loss_of(f.detach().clone().requires_grad_(), targets, loss)
    if not value.requires_grad:
        raise BadInput(
            "loss(f, targets) has no gradient in f: compute it from f by torch operations alone, without item(), "
            "detach() or numpy"
        )


def prepared_targets(targets: Tensor, loss: Loss, n_outputs: int, dtype: torch.dtype) -> Tensor:
    """Targets as the loss takes them: for "mse" (n, C), integer classes as centred one-hot rows; else as they are.

    For "mse" of one output, integers of two values are these values.
    """
    if isinstance(loss, str) and loss not in LOSSES:
        raise BadInput(f"loss={loss!r} must be one of {', '.join(LOSSES)} or a callable (f, targets) -> scalar")
    if loss == "cross-entropy" and n_outputs == 1:
        raise BadInput(
            "the cross-entropy of one output is 0 whatever it is: give loss='mse', or a function such as "
            "torch.nn.functional.binary_cross_entropy_with_logits with targets (n, 1)"
        )
    targets = as_row(targets, n_outputs)
    if loss == "mse":
        targets = as_values(targets, n_outputs)
    classes = targets.ndim == 1 and not targets.is_floating_point()
    if classes and isinstance(loss, str) and targets.numel():
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= n_outputs:
            raise BadInput(
                f"integer targets must be classes 0..{n_outputs - 1} (the model has {n_outputs} outputs), "
                f"got {low}..{high}: renumber the classes or give the model more outputs; "
                "numbers that are no classes must be floats"
            )
    if callable(loss):
        return targets if not targets.is_floating_point() else targets.to(dtype)
    if loss == "cross-entropy":
        if not classes:
            raise BadInput(f"loss='cross-entropy' needs integer classes, got {targets.dtype} {tuple(targets.shape)}")
        return targets.long()
    if classes:
        return centred_one_hot(targets, n_outputs, dtype)
    values = require_finite(targets.to(dtype).flatten(1) if targets.ndim > 1 else targets.to(dtype)[:, None], "targets")
    if values.shape[1] != n_outputs:
        raise BadInput(f"targets have {values.shape[1]} values per sample, but the model has {n_outputs} outputs")
    return values


@dataclass(eq=False)
class Objective:
    """Relative loss and its gradient as functions of the flat displacement u (p,).

    Attributes:
        model: a private copy in its training or evaluation mode; its parameters stay w0, its buffers may move.
        start: trainable parameters w0 by name, complex ones (`pairs`) as pairs of real numbers.
        uses: where each of them is used, see `uses_of`.
        centered: whether net(w0) is taken off. mode: "eval" or "train".
        scales: by name, a layer's own unit of displacement, w = w0 + gamma * scale * u: descent on u at one rate then
            moves w at the rate times scale^2 (an adaptive method: times scale). 1 where there is none.
        reference: net(w0) on all inputs (n, C), or zeros if not centred. frozen: net at w0 where its outputs depend on
            the batch (BatchNorm in training mode) and are computed afresh. unit: the loss at f = 0.
    """

    model: nn.Module
    inputs: Any
    targets: Tensor
    gamma: float
    loss: Loss
    readout: Readout | None
    start: dict[str, Tensor]
    uses: tuple[tuple[str, str], ...]
    centered: bool
    mode: str
    weight_decay: float
    scales: Mapping[str, float]
    reference: Tensor
    frozen: nn.Module | None = None
    unit: float = 1.0
    pairs: frozenset[str] = frozenset()

    def raw(self, u: Tensor, inputs: Any) -> Tensor:
        """(n, C) outputs of the network at w0 + gamma u."""
        return self._raw_at(self._at(u), inputs)

    def _raw_at(self, weights: Mapping[str, Tensor], inputs: Any) -> Tensor:
        out = call_with(self.model, self._stored(weights), self.uses, inputs)
        return output_matrix(out, inputs, self.readout)

    def outputs(self, u: Tensor, rows: Tensor | None = None) -> Tensor:
        """f (n, C) on all samples, or those in `rows`."""
        return self._outputs_at(self._at(u), rows)

    def _outputs_at(self, weights: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        inputs = self.inputs if rows is None else take(self.inputs, rows)
        if self.frozen is not None:
            with torch.no_grad(), differentiable_attention():
                before = output_matrix(call(self.frozen, inputs), inputs, self.readout)
        else:
            before = self.reference if rows is None else self.reference[rows]
        return (self._raw_at(weights, inputs) - before) / self.gamma

    def relative_loss(self, f: Tensor, rows: Tensor | None = None) -> Tensor:
        """The loss of outputs f over its value at f = 0."""
        return loss_of(f, self.targets if rows is None else self.targets[rows], self.loss) / self.unit

    def value(self, u: Tensor) -> float:
        """Relative loss on all samples."""
        return float(self.relative_loss(self.all_outputs(u)))

    def all_outputs(self, u: Tensor) -> Tensor:
        """f (n, C) on all samples without a gradient, in parts where there are many."""
        n = self.targets.shape[0]
        with torch.no_grad():
            if n <= EVALUATE_AT_ONCE or self.mode == "train":
                return self.outputs(u)
            return torch.cat(
                [self.outputs(u, rows) for rows in torch.arange(n, device=u.device).split(EVALUATE_AT_ONCE)]
            )

    def gradient(self, u: Tensor, rows: Tensor | None = None) -> tuple[float, Tensor]:
        """Relative loss, and the gradient (p,) of it and the penalty with respect to u."""
        u = u.detach()
        # By the weights, and then by u, which is a product and a sum away from each of them: torch's own way from u to
        # the weights and back takes an eighth of the time of a small network's steps.
        weights = {n: w.requires_grad_() for n, w in self._at(u).items()}
        value = self.relative_loss(self._outputs_at(weights, rows), rows)
        found = torch.autograd.grad(value, list(weights.values()), allow_unused=True, materialize_grads=True)
        slope = self._by_u(found)
        if self.weight_decay:
            # The gradient of the penalty by w, weight_decay * w, times dw/du.
            pulls = [self.weight_decay * self.step_of(n) * w.flatten() for n, w in self._at(u).items()]
            slope = slope + torch.cat(pulls)
        return float(value.detach()), slope

    def _by_u(self, slopes: Sequence[Tensor]) -> Tensor:
        """A gradient (p,) with respect to u from those of the weights."""
        return torch.cat([self.step_of(n) * g.flatten() for n, g in zip(self.start, slopes, strict=True)])

    def vjp(self, u: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Outputs f (n, C) at u, and their pullback: (n, C) -> (p,), as often as it is wanted."""
        weights = [w.requires_grad_() for w in self._at(u.detach()).values()]
        f = self._outputs_at(dict(zip(self.start, weights, strict=True)), rows)

        def pull(back: Tensor) -> Tensor:
            return self._by_u(torch.autograd.grad(
                f, weights, back, retain_graph=True, allow_unused=True, materialize_grads=True
            ))  # fmt: skip

        return f, pull

    def penalty(self, u: Tensor) -> float:
        """(weight_decay / 2) |w|^2, which descent lowers together with the relative loss."""
        if not self.weight_decay:
            return 0.0
        return 0.5 * self.weight_decay * float(sum(w.square().sum() for w in self._at(u).values()))

    def step_of(self, name: str) -> float:
        """dw/du of one parameter: gamma times its scale."""
        return self.gamma * self.scales.get(name, 1.0)

    def weights_at(self, u: Tensor) -> dict[str, Tensor]:
        """The trainable parameters w0 + gamma u by name."""
        return self._stored(self._at(u))

    def _stored(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: torch.view_as_complex(w) if n in self.pairs else w for n, w in weights.items()}

    def _at(self, u: Tensor) -> dict[str, Tensor]:
        """The same, complex ones as pairs of real numbers."""
        pieces = u.split([t.numel() for t in self.start.values()])
        return {
            name: w + self.step_of(name) * piece.view_as(w)
            for (name, w), piece in zip(self.start.items(), pieces, strict=True)
        }

    def moved(self, u: Tensor) -> Tensor:
        """(w - w0) / gamma (p,): u, in the parameters' own scales."""
        if not self.scales:
            return u
        pieces = u.split([t.numel() for t in self.start.values()])
        return torch.cat([self.scales.get(n, 1.0) * piece for n, piece in zip(self.start, pieces, strict=True)])

    def zero(self) -> Tensor:
        """The displacement 0 (p,)."""
        return torch.cat([torch.zeros_like(w).flatten() for w in self.start.values()])


def _set_mode(model: nn.Module, mode: str) -> None:
    """Evaluation or training mode with dropout off either way: f must be a function of w, and exactly 0 at w0."""
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            # cuDNN differentiates recurrent layers in training mode only, where all that differs is dropout.
            module.dropout = 0.0
            module.training = True
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
            module.training = mode == "train"
        else:
            module.training = mode == "train" and not isinstance(module, nn.modules.dropout._DropoutNd)


def objective(
    model: nn.Module,
    inputs: Any,
    targets: Tensor,
    *,
    gamma: float,
    loss: Loss,
    readout: Readout | None,
    mode: str,
    centered: bool = True,
    weight_decay: float = 0.0,
    scales: Mapping[str, float] | None = None,
) -> Objective:
    """An `Objective` of a model that nobody else holds (it is switched to `mode`: "eval" or "train")."""
    start = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    if not start:
        raise BadInput("the model has no trainable parameters (requires_grad is False for all, or there are none)")
    _set_mode(model, mode)
    uses = uses_of(model)
    made = explained(model, lambda: call_with(model, start, uses, inputs), inputs)
    first = output_matrix(made, inputs, readout).detach()
    if not torch.isfinite(first).all():
        raise BadInput("the untrained model's outputs hold NaN or infinite values: check its weights and the inputs")
    pairs = frozenset(n for n, w in start.items() if w.is_complex())
    start = {n: real_pairs(w) for n, w in start.items()}
    ready = prepared_targets(as_classes(targets, first.shape[1]), loss, first.shape[1], first.dtype)
    if first.shape[0] != ready.shape[0]:
        raise BadInput(
            f"the model returns {first.shape[0]} rows of outputs for {ready.shape[0]} samples: "
            "pass readout= to bring the samples into the first dimension"
        )
    require_gradient(first, ready, loss)
    unit = loss_at_zero(first, ready, loss)
    if not centered and not math.isfinite(float(loss_of(first / gamma, ready, loss))):
        raise BadInput(f"the loss of net(w0) / {gamma:g} is not finite: centre the outputs, or take a larger gamma")
    return Objective(
        model, inputs, ready, gamma, loss, readout, start, uses, centered, mode, weight_decay, scales or {},
        first if centered else torch.zeros_like(first),
        copy.deepcopy(model) if mode == "train" and centered else None, unit, pairs,
    )  # fmt: skip


def top_curvature(problem: Objective, u: Tensor, start: Tensor | None, rounds: int) -> tuple[float, Tensor]:
    """Largest eigenvalue of the Gauss-Newton Hessian J' H J at u by power iteration, and its vector (p,).

    J = df/du, H = the loss's Hessian in f; for the mean square J' H J has the NTK's eigenvalues up to a factor.
    J v is a central difference, since forward-mode derivatives do not exist for every module (fused LSTM, attention).
    """
    u = u.detach()
    n = problem.targets.shape[0]
    rows = None if n <= CURVATURE_SAMPLES else torch.linspace(0, n - 1, CURVATURE_SAMPLES, device=u.device).long()
    f, pull = problem.vjp(u, rows)
    at = f.detach().requires_grad_()
    (slope,) = torch.autograd.grad(problem.relative_loss(at, rows), at, create_graph=True)
    v = start if start is not None else pull(slope.detach())
    size = float(torch.stack([w.square().sum() for w in problem.start.values()]).sum().sqrt())
    # The relative step at which curvature (h^2) and rounding (eps / h) cost a difference the same digits.
    precision = torch.finfo(u.dtype).eps ** (1 / 3)
    value = 0.0
    for _ in range(rounds):
        length = float(v.norm())
        if not length > 0 or not math.isfinite(length):
            break
        v = v / length
        step = precision * max(size / problem.gamma, float(u.norm()), 1e-12) / max([1.0, *problem.scales.values()])
        with torch.no_grad():
            tangent = (problem.outputs(u + step * v, rows) - problem.outputs(u - step * v, rows)) / (2 * step)
        (bent,) = torch.autograd.grad(slope, at, tangent, retain_graph=True, allow_unused=True, materialize_grads=True)
        v = pull(bent)
        value = float(v.norm())
    return value, v
