"""Exact gradient flow of a lambda-balanced two-layer linear network on whitened inputs.

With Q = [W1'; W2] and F = [[-lambda/2 I, S'], [S, lambda/2 I]], S = E[y x']:  d(QQ')/dt = F QQ' + QQ' F - (QQ')^2, and

    QQ'(t) = e^{Ft} Q0 [I + Q0' Phi(t) Q0]^{-1} Q0' e^{Ft},    Phi(t) = int_0^t e^{2Fs} ds

(Domine et al. 2024, theorem 4.1; Braun et al. 2022). No inverse of Q, and no equal widths, are needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, require_finite, safe_eigh
from geomfeat.regimes.linear_networks.balance import chained, layer_balance
from geomfeat.regimes.linear_networks.task import LinearTask

# Beyond |eigenvalue of F| dt ~ 15 the bracket loses all digits of the small modes; at 2 it loses under one.
_LONGEST_STEP = 2.0
_BALANCED = 1e-6


@dataclass(frozen=True, eq=False)
class LinearPath(PlottableResult):
    """A two-layer linear network along its training.

    The hidden units are known up to a rotation that may differ between times: products, similarities, kernels, losses
    and the balance do not see it.

    Args:
        times: (T,), from the start of the task.
        w1, w2: (T, hidden, inputs) and (T, outputs, hidden), float64.
        task: what it is trained on.

    `to_frame()`: one row for each time: times, loss.
    """

    times: Tensor
    w1: Tensor
    w2: Tensor
    task: LinearTask

    _rows = ("times", "loss")

    @property
    def product(self) -> Tensor:
        """The network's map W2 W1, (T, outputs, inputs)."""
        return self.w2 @ self.w1

    @property
    def gram(self) -> Tensor:
        """QQ' of Q = [W1'; W2], (T, inputs + outputs, inputs + outputs)."""
        q = torch.cat([self.w1.mT, self.w2], -2)
        return q @ q.mT

    @property
    def loss(self) -> Tensor:
        """Loss on the task it is trained on, (T,)."""
        return self.task.loss(self.product)

    @property
    def balance(self) -> Tensor:
        """W2'W2 - W1 W1', (T, hidden, hidden); constant, lambda I."""
        return self.w2.mT @ self.w2 - self.w1 @ self.w1.mT

    def outputs(self, x: Tensor) -> Tensor:
        """What the network answers to inputs `x` (n, inputs), also new ones: (T, n, outputs)."""
        return self._inputs(x) @ self.product.mT

    def similarity(self, x: Tensor) -> Tensor:
        """Hidden representation's Gram matrix of inputs `x` (n, inputs): x W1'W1 x', (T, n, n)."""
        hidden = self._inputs(x) @ self.w1.mT
        return hidden @ hidden.mT

    def ntk(self, x: Tensor) -> Tensor:
        """Neural tangent kernel, (T, n outputs, n outputs), sample-major as in `geomfeat.tangent.ntk`.

        K[(i, c), (j, d)] = [c = d] x_i'W1'W1 x_j + (W2W2')_cd x_i'x_j.
        """
        x = self._inputs(x)
        own = torch.eye(self.w2.shape[1], dtype=WORKING, device=x.device)
        first = torch.einsum("tij,cd->ticjd", self.similarity(x), own)
        second = torch.einsum("tcd,ij->ticjd", self.w2 @ self.w2.mT, x @ x.mT)
        n = len(x) * len(own)
        return (first + second).reshape(-1, n, n)

    def ntk_movement(self, x: Tensor) -> Tensor:
        """1 - <K(0), K(t)> / (|K(0)| |K(t)|) of the kernel on `x` (n, inputs), (T,): 0 = lazy."""
        kernels = self.ntk(x).flatten(1)
        return 1 - torch.nn.functional.cosine_similarity(kernels, kernels[:1], dim=1, eps=0.0)

    def _inputs(self, x: Tensor) -> Tensor:
        x = require_finite(as_tensor(x, "x", WORKING), "x").to(self.w1.device)
        if x.ndim != 2 or x.shape[1] != self.w1.shape[2]:
            raise BadInput(f"x must be (n, {self.w1.shape[2]}), the width of the inputs, got {tuple(x.shape)}")
        return x

    def _chart(self) -> Plot:
        return line_chart("linear network", "time", "loss", self.times, self.loss)


def linear_flow(w1: Tensor, w2: Tensor, task: LinearTask, times: Sequence[float] | Tensor) -> LinearPath:
    """Gradient flow, time constant 1, from lambda-balanced weights: exact at every one of `times` (ascending, >= 0).

    Error about 2e-10 up to |F| t = 400, save on a path into a saddle, which happens at lambda = 0: an aligned reversal,
    or a square network whose det W2 W1, of conserved sign, has not the task's. There the true flow stays, and rounding
    leaves after |F| t ~ 35. BadInput where the weights are not balanced or shapes differ from the task's.
    Gradient descent at learning rate eta, t = eta * steps, differs by about a third of eta, relative.

    >>> from geomfeat.regimes.linear_networks import balanced_network
    >>> w1, w2 = balanced_network(3, 2, 3, balance=1.0)
    >>> path = linear_flow(w1, w2, LinearTask(torch.diag(torch.tensor([2.0, 1.0, 0.0]))), [0, 1, 50])
    >>> [round(float(v), 4) for v in path.loss][2]
    0.0
    """
    w1, w2 = chained(w1, w2)
    t = require_finite(as_tensor(times, "times", WORKING), "times")
    if t.ndim != 1 or not len(t) or float(t[0]) < 0 or bool((t.diff() < 0).any()):
        raise BadInput(f"times must be a list of ascending numbers >= 0, got {t.flatten().tolist()[:5]}: sort it")
    target = task.correlation.to(w1.device)
    outputs, inputs = len(w2), w1.shape[1]
    if tuple(target.shape) != (outputs, inputs):
        raise BadInput(f"the task is (outputs, inputs) = {tuple(target.shape)}, the network {(outputs, inputs)}")
    balance = layer_balance(w1, w2)
    if balance.residual > _BALANCED:
        raise BadInput(
            f"w1, w2 are not balanced: W2'W2 - W1 W1' is off {balance.value:.3g} I by {balance.residual:.2g} of their "
            "size, and only balanced weights have this solution: start from balanced_network or balanced_factors"
        )
    half = torch.cat([-torch.ones(inputs), torch.ones(outputs)]).to(target) * balance.value / 2
    f = torch.diag(half)
    f[inputs:, :inputs], f[:inputs, inputs:] = target, target.mT
    rates, basis = safe_eigh(f)
    # In the eigenbasis of F a step is a rescaling of rows.
    q = basis.mT @ torch.cat([w1.mT, w2])
    seen = []
    for step in torch.cat([t[:1], t.diff()]).tolist():
        q = _advance(q, rates, step)
        seen.append(basis @ q)
    path = torch.stack(seen)
    return LinearPath(t, path[:, :inputs].mT.contiguous(), path[:, inputs:], task)


def _advance(q: Tensor, rates: Tensor, time: float) -> Tensor:
    """Q after `time`: the one-shot formula, restarted from the factor every step.

    Q <- e^{F dt} Q L^{-T} with L L' = I + Q' Phi(dt) Q. (Restarting QQ' itself fails where the hidden layer is narrow.)
    """
    if time == 0:
        return q
    steps = max(1, ceil(float(rates.abs().max()) * time / _LONGEST_STEP))
    dt = time / steps
    twice = 2 * rates
    # The integral of exp(2 rate t) over the step, which is dt for a rate of 0.
    phi = torch.where(twice == 0, torch.full_like(rates, dt), torch.expm1(twice * dt) / twice)
    growth = torch.exp(rates * dt)
    own = torch.eye(q.shape[1], dtype=q.dtype, device=q.device)
    for _ in range(steps):
        # I + a positive semi-definite matrix: always positive definite, and of moderate condition after a short step.
        lower = torch.linalg.cholesky(own + q.mT @ (phi[:, None] * q))
        q = torch.linalg.solve_triangular(lower, (growth[:, None] * q).mT, upper=False).mT
    return q
