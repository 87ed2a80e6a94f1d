"""Sharpness: the largest eigenvalues of the training loss's Hessian, by Lanczos from Hessian-vector products.

Full reorthogonalisation (twice) keeps the Krylov basis orthogonal, so no eigenvalue is found twice. A Ritz pair
(theta, V s) has the residual |H v - theta v| = beta |last entry of s|, and an eigenvalue of H lies within it
(Parlett 1998, theorem 4.5.1). ARPACK (scipy's eigsh) takes as many products, but gives no value and no residual
before it has converged.

The products are second derivatives by two backward passes, which silently leave out operations that cannot be
differentiated twice. So one product is compared with a difference of gradients, and where they differ although the
gradient is smooth, products are differences, if these are symmetric: else the gradients are those of no function.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.memory import is_out_of_memory, with_more_rows
from geomfeat.models.functional import Functional, Readout, functional
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.numerics import WORKING, require_finite, resolve_device, safe_eigh, stream
from geomfeat.regimes.training.class_targets import as_classes
from geomfeat.regimes.training.objective import Loss, loss_of, prepared_targets, require_gradient
from geomfeat.tangent.jacobians.derivative_checks import require_callable
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence, plain_gradient

logger = logging.getLogger(__name__)
FALSE = 1e-4  # relative difference of two ways to a product that neither rounding nor curvature explains
FIRST_ROWS = 32  # vectors that Lanczos has room for at first
COMPARED = 8  # samples on which the two ways are compared
CHECK_EVERY = 5  # Lanczos checks its convergence every so many steps
MOST_STEPS = 200  # products: a few leading eigenvalues take tens; what has not converged then is clustered, and flagged


@dataclass(frozen=True, eq=False)
class Sharpness(BaseResult):
    """The largest eigenvalues of a loss's Hessian.

    Attributes:
        values: (k,) descending, by sign: negative curvature counts as small. vectors: (p, k), orthonormal.
        residuals: (k,) |H v - value v|: an eigenvalue lies within it of each value.
        steps: Hessian-vector products taken. converged: whether all residuals met the tolerance.

    `to_frame()`: one row for each eigenvalue: values, residuals, steps, converged.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    steps: int
    converged: bool

    _rows = ("values", "residuals")

    @property
    def top(self) -> float:
        """The sharpness itself: gradient descent at a fixed rate above 2 / top is locally unstable."""
        return float(self.values[0])


def top_eigenvalues(
    product: Callable[[Tensor], Tensor],
    size: int,
    k: int = 1,
    *,
    rtol: float = 1e-6,
    max_steps: int = MOST_STEPS,
    start: Float[Tensor, " p"] | None = None,
    seed: int = 0,
    device: torch.device | None = None,
) -> Sharpness:
    """The k largest eigenvalues (by sign) of a symmetric matrix of `size` rows, from products with it, in float64.

    Stops when every residual is below `rtol` times the largest |eigenvalue|. Copies of a multiple eigenvalue are found
    once. `start`: a first vector, as that of a nearby matrix; default drawn from `seed`.

    >>> diagonal = torch.tensor([-9.0, 1.0, 4.0, 7.0], dtype=torch.float64)
    >>> [round(float(v), 9) for v in top_eigenvalues(lambda v: diagonal * v, 4, 2).values]
    [7.0, 4.0]
    """
    if not 1 <= k <= size:
        raise BadInput(f"k={k} must be from 1 to the {size} rows of the matrix")
    first = torch.randn(size, generator=stream(seed, "sharpness"), dtype=WORKING) if start is None else start
    first = first.to(WORKING if device is None else device).to(WORKING)
    most = max(k, min(max_steps, size))
    basis = torch.zeros(min(most, FIRST_ROWS), size, dtype=WORKING, device=first.device)
    basis[0] = first / first.norm()
    tri = torch.zeros(most, most, dtype=WORKING)
    step, last = 0, 0.0
    while True:
        w = product(basis[step]).to(WORKING)
        if not bool(torch.isfinite(w).all()):
            raise BadInput("a Hessian-vector product holds NaN or infinite values: the weights are out of range")
        tri[step, step] = float(w @ basis[step])
        # Twice against all of them, since rounding destroys the orthogonality of Lanczos vectors.
        for _ in range(2):
            w = w - basis[: step + 1].mT @ (basis[: step + 1] @ w)
        last = float(w.norm())
        step += 1
        # A new vector of rounding size: those known span an invariant subspace, and what is found in it is exact.
        closed = last <= 1e-13 * float(tri[:step, :step].abs().max().clamp_min(1e-300))
        if closed or step == most or (step % CHECK_EVERY == 0 and step >= k):
            values, vectors = safe_eigh(tri[:step, :step])
            # |H v - l v| of a Ritz pair is the next off-diagonal entry times the last component of its vector.
            residuals = (0.0 if closed else last) * vectors[-1].abs()
            found = values.flip(0)[:k], vectors.flip(1)[:, :k], residuals.flip(0)[:k]
            converged = bool((found[2] <= rtol * values.abs().max()).all()) and step >= k
            if converged or closed or step == most:
                ritz = basis[:step].mT @ found[1].to(basis.device)
                return Sharpness(found[0], ritz, found[2], step, converged)
        tri[step, step - 1] = tri[step - 1, step] = last
        if step == len(basis):
            basis = with_more_rows(basis, most, "ask for fewer eigenvalues, or raise rtol=")
        basis[step] = w / last


def sharpness(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    loss: Loss = "mse",
    initial: nn.Module | None = None,
    gamma: float = 1.0,
    k: int = 1,
    rtol: float = 1e-6,
    seed: int = 0,
    readout: Readout | None = None,
    start: Tensor | None = None,
) -> Sharpness:
    """The k largest eigenvalues of the Hessian of the loss in the weights of `model`, full batch, in float64.

    Args:
        loss: "mse" (mean over samples of the SUM of squares over outputs; classes become one-hot rows minus 1/C),
            "cross-entropy", or a callable (f, targets) -> scalar; as it is, not relative to its start.
        initial: with it f = (net(w) - net(w0)) / gamma, w0 its weights; without it f = net(w) / gamma.
        k, rtol, start: of Lanczos, see `top_eigenvalues`; it takes at most 200 products.

    Gradient descent w -= eta dL/dw on this loss is locally stable for eta < 2 / sharpness (Cohen et al. 2021).

    Raises BadInput for targets that do not fit, gamma <= 0, k out of range, or weights with NaN.

    >>> net = nn.Linear(1, 1, bias=False)  # L = mean (w x - y)^2: second derivative 2 mean x^2
    >>> round(sharpness(net, torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)).top, 6)
    10.0
    """
    product, size = hessian_product(model, inputs, targets, loss=loss, initial=initial, gamma=gamma, readout=readout)
    where = resolve_device(None, like=next(model.parameters()))  # where the products are
    return top_eigenvalues(product, size, k, rtol=rtol, seed=seed, start=start, device=where)


def hessian_product(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    loss: Loss = "mse",
    initial: nn.Module | None = None,
    gamma: float = 1.0,
    readout: Readout | None = None,
) -> tuple[Callable[[Tensor], Tensor], int]:
    """(v -> H v for flat float64 v of p entries, p): arguments and errors as in `sharpness`."""
    if not (gamma > 0 and math.isfinite(gamma)):
        raise BadInput(f"gamma={gamma} must be a positive number")
    f = functional(model, readout=readout)
    x = f.inputs(inputs)
    goal = as_goal(targets, "targets").to(f.device)
    before = torch.zeros((), dtype=WORKING, device=f.device)
    if n_samples(x) != goal.shape[0]:
        raise BadInput(f"targets have {goal.shape[0]} entries, but inputs {n_samples(x)} samples")
    require_callable(f, x)
    if initial is not None:
        base = functional(initial, readout=readout, device=f.device)
        with torch.no_grad():
            before = base(base.theta, x)

    def value_on(rows: slice) -> Callable[[Mapping[str, Tensor]], Tensor]:
        part, start = take(x, rows), before[rows] if before.ndim else before

        def value_at(theta: Mapping[str, Tensor]) -> Tensor:
            out = (require_finite(f(theta, part), "the network's outputs on the inputs") - start) / gamma
            # Numbered by all samples: one batch may lack a class.
            ready = prepared_targets(as_classes(goal, out.shape[1])[rows], loss, out.shape[1], WORKING)
            require_gradient(out, ready, loss)
            return loss_of(out, ready, loss)

        return value_at

    whole = _Hessian(f, value_on(slice(None)))
    by_passes = _Hessian(f, value_on(slice(0, COMPARED))).is_by_two_passes()
    return (whole.by_two_passes if by_passes else whole.by_differences), f.n_parameters


class _Hessian:
    """Products with the Hessian of `value_at` at a network's weights, v and H v flat."""

    def __init__(self, f: Functional, value_at: Callable[[Mapping[str, Tensor]], Tensor]) -> None:
        self.f, self.value_at = f, value_at
        self.theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
        with differentiable_recurrence(f), torch.enable_grad():
            self.slope = _flat(plain_gradient(value_at(self.theta), self.theta, create_graph=True))

    def by_two_passes(self, v: Tensor) -> Tensor:
        """The derivative of <gradient, v>."""
        if not self.slope.requires_grad:  # the loss is linear in the weights
            return torch.zeros_like(v)
        rows = plain_gradient(self.slope @ v.to(self.slope), self.theta, retain_graph=True)
        return _flat(rows).detach()

    def by_differences(self, v: Tensor, share: float = 1.0) -> Tensor:
        """The central difference of the gradient, with `share` of the usual step."""
        size = float(torch.stack([w.detach().norm() for w in self.theta.values()]).norm()) or 1.0
        # The cube root of eps balances the central difference's error, step^2, against rounding, eps / step.
        step = share * torch.finfo(self.f.precision).eps ** (1 / 3) * size / float(v.norm())
        pieces = v.to(self.slope).split([w.numel() for w in self.theta.values()])
        ends = []
        for s in (step, -step):
            moved = {
                name: (w.detach() + s * piece.view_as(w)).requires_grad_()
                for (name, w), piece in zip(self.theta.items(), pieces, strict=True)
            }
            with differentiable_recurrence(self.f), torch.enable_grad():
                ends.append(_flat(plain_gradient(self.value_at(moved), moved)))
        return (ends[0] - ends[1]) / (2 * step)

    def is_by_two_passes(self) -> bool:
        """Whether that is right for this network; else differences are. BadInput where there is no Hessian."""
        v, w = (
            torch.randn(self.f.n_parameters, generator=stream(0, "hessian", name), dtype=WORKING).to(self.f.device)
            for name in ("first", "second")
        )
        fine = self.by_differences(v, 0.1)
        near = FALSE * float(fine.norm())
        try:
            if float((self.by_two_passes(v) - fine).norm()) <= near:
                return True
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
        # Where two steps differ there are kinks near by, and differences are no measure.
        if not float((self.by_differences(v) - fine).norm()) <= near:
            return True
        if abs(float(w @ fine - v @ self.by_differences(w, 0.1))) > near * float(w.norm()):
            raise BadInput(
                "the gradients of this model are those of no function (a straight-through estimator, detach() or "
                "no_grad() in forward), so its loss has no Hessian in the weights"
            )
        logger.info("Hessian-vector products are differences of gradients: an operation has no second derivative")
        return False


def _flat(values: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values.values()])
