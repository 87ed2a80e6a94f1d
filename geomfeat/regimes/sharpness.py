"""Sharpness: the largest eigenvalues of the training loss's Hessian, by Lanczos from Hessian-vector products.

Full reorthogonalisation (twice) keeps the Krylov basis orthogonal, so no eigenvalue is found twice. A Ritz pair
(theta, V s) has the residual |H v - theta v| = beta |last entry of s|, and an eigenvalue of H lies within it
(Parlett 1998, theorem 4.5.1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.kernels.gradients import differentiable_recurrence
from geomfeat.models.functional import Readout, functional, n_samples
from geomfeat.numerics import WORKING, as_tensor, require_finite, safe_eigh, stream
from geomfeat.regimes.objective import Loss, loss_of, prepared_targets, require_gradient

CHECK_EVERY = 5  # Lanczos looks at its answer every so many steps


@dataclass(frozen=True, eq=False)
class Sharpness:
    """The largest eigenvalues of a loss's Hessian.

    Attributes:
        values: (k,) descending, by sign: negative curvature counts as small. vectors: (p, k), orthonormal.
        residuals: (k,) |H v - value v|: an eigenvalue lies within it of each value.
        steps: Hessian-vector products taken. converged: whether all residuals met the tolerance.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    steps: int
    converged: bool

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
    max_steps: int = 200,
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
    basis = torch.zeros(most, size, dtype=WORKING, device=first.device)
    basis[0] = first / first.norm()
    tri = torch.zeros(most, most, dtype=WORKING)
    step, last = 0, 0.0
    while True:
        w = product(basis[step]).to(WORKING)
        if not bool(torch.isfinite(w).all()):
            raise BadInput("a Hessian-vector product holds NaN or infinite values: the weights are out of range")
        tri[step, step] = float(w @ basis[step])
        for _ in range(2):
            w = w - basis[: step + 1].mT @ (basis[: step + 1] @ w)
        last = float(w.norm())
        step += 1
        closed = last <= 1e-13 * float(tri[:step, :step].abs().max().clamp_min(1e-300))
        if closed or step == most or (step % CHECK_EVERY == 0 and step >= k):
            values, vectors = safe_eigh(tri[:step, :step])
            residuals = (0.0 if closed else last) * vectors[-1].abs()
            found = values.flip(0)[:k], vectors.flip(1)[:, :k], residuals.flip(0)[:k]
            converged = bool((found[2] <= rtol * values.abs().max()).all()) and step >= k
            if converged or closed or step == most:
                ritz = basis[:step].mT @ found[1].to(basis.device)
                return Sharpness(found[0], ritz, found[2], step, converged)
        tri[step, step - 1] = tri[step - 1, step] = last
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
    max_steps: int = 200,
    seed: int = 0,
    readout: Readout | None = None,
    start: Tensor | None = None,
) -> Sharpness:
    """The k largest eigenvalues of the Hessian of the loss in the weights of `model`, full batch, in float64.

    Args:
        loss: "mse" (mean over samples of the SUM of squares over outputs; classes become one-hot rows minus 1/C),
            "cross-entropy", or a callable (f, targets) -> scalar; as it is, not relative to its start.
        initial: with it f = (net(w) - net(w0)) / gamma, w0 its weights; without it f = net(w) / gamma.
        k, rtol, max_steps, start: of Lanczos, see `top_eigenvalues`.

    Gradient descent w -= eta dL/dw on this loss is locally stable for eta < 2 / sharpness (Cohen et al. 2021).

    Raises BadInput for targets that do not fit, gamma <= 0, k out of range, or weights with NaN.

    >>> net = nn.Linear(1, 1, bias=False)  # L = mean (w x - y)^2: second derivative 2 mean x^2
    >>> round(sharpness(net, torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)).top, 6)
    10.0
    """
    product, size = hessian_product(model, inputs, targets, loss=loss, initial=initial, gamma=gamma, readout=readout)
    return top_eigenvalues(product, size, k, rtol=rtol, max_steps=max_steps, seed=seed, start=start)


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
    goal = as_tensor(targets, "targets").to(f.device)
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    with differentiable_recurrence(f), torch.enable_grad():
        before = torch.zeros((), dtype=WORKING, device=f.device)
        if initial is not None:
            base = functional(initial, readout=readout, device=f.device)
            before = base(base.theta, x).detach()
        if n_samples(x) != goal.shape[0]:
            raise BadInput(f"targets have {goal.shape[0]} entries, but inputs {n_samples(x)} samples")
        out = (require_finite(f(theta, x), "the network's outputs on the inputs") - before) / gamma
        ready = prepared_targets(goal, loss, out.shape[1], WORKING)
        require_gradient(out, ready, loss)
        value = loss_of(out, ready, loss)
        slopes = _gradient(value, list(theta.values()), create_graph=True)
    slope = torch.cat([s.flatten() for s in slopes])

    def product(v: Tensor) -> Tensor:
        if not slope.requires_grad:  # the loss is linear in the weights
            return torch.zeros_like(v)
        rows = _gradient(slope @ v.to(slope), list(theta.values()), retain_graph=True)
        return torch.cat([r.detach().flatten() for r in rows])

    return product, f.n_parameters


def _gradient(value: Tensor, weights: list[Tensor], **options: Any) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True, **options)
