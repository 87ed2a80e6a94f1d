"""Many networks of one hidden layer, trained at once by gradient flow, and the place of each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geomfeat.location.demand import MIDDLE
from geomfeat.location.initial_states import Start, observe, start_from
from geomfeat.models.linear import linear
from geomfeat.models.mlp import mlp
from geomfeat.network import Network
from geomfeat.numerics import WORKING

# A step, of the inverse of a bound on the curvature. The flow's balance is then kept to 1e-3 (see the experiment).
STEP = 0.1
CHECK_EVERY = 10  # steps between two looks at the loss and the curvature


def gradient_flow(
    w: Tensor, a: Tensor, x: Tensor, y: Tensor, *, relu: bool, share_left: float, max_steps: int = 40000
) -> tuple[Tensor, Tensor]:
    """w and a after gradient flow of |y - a act(w x)|^2, by midpoint steps, to `share_left` of |y|^2.

    Args:
        w: (networks, hidden, inputs). a: (networks, outputs, hidden). x: (n, inputs). y: (n, outputs).

    RuntimeError where a network has not got there after `max_steps`.
    """
    w, a = w.clone(), a.clone()
    spread, goal = float(torch.linalg.matrix_norm(x, 2)) ** 2, share_left * float(y.square().sum())
    going = torch.arange(len(w), device=w.device)
    for step in range(max_steps):
        if step % CHECK_EVERY == 0:
            residual = _slopes(w[going], a[going], x, y, relu)[2]
            going = going[residual.square().sum((1, 2)) > goal]
            if not len(going):
                return w, a
            residual = _slopes(w[going], a[going], x, y, relu)[2]
            # The Hessian is at most (|w|^2 + |a|^2) |x|^2 along the tangent kernel, and |residual' x| beside it.
            sizes = w[going].square().sum((1, 2)) + a[going].square().sum((1, 2))
            rate = STEP / (sizes * spread + torch.linalg.matrix_norm(residual.mT @ x))[:, None, None]
        dw, da, _ = _slopes(w[going], a[going], x, y, relu)
        dw, da, _ = _slopes(w[going] + rate / 2 * dw, a[going] + rate / 2 * da, x, y, relu)
        w[going] += rate * dw
        a[going] += rate * da
    raise RuntimeError(f"{len(going)} of {len(w)} networks have more than {share_left:g} of their loss left")


def _slopes(w: Tensor, a: Tensor, x: Tensor, y: Tensor, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Minus half of the gradients, and the residual (networks, n, outputs)."""
    h = x @ w.mT
    features = h.clamp_min(0) if relu else h
    residual = y - features @ a.mT
    back = residual @ a
    return (back * (h > 0) if relu else back).mT @ x, residual.mT @ features, residual


def network(w: Tensor, a: Tensor, *, relu: bool) -> nn.Module:
    """The module a act(w x) of one network's weights (hidden, inputs) and (outputs, hidden)."""
    sizes = w.shape[1], (w.shape[0],), a.shape[0]
    model = (mlp(*sizes, bias=False) if relu else linear(*sizes)).to(w.device, WORKING)
    with torch.no_grad():
        model.get_parameter("fc1.weight").copy_(w)
        model.get_parameter("head.weight").copy_(a)
    return model


def place(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], x: Tensor, *, relu: bool) -> Start:
    """Demand, movement and the tangent kernel's place of one network, with all inputs as probes."""
    start, end = (network(w, a, relu=relu) for w, a in (before, after))
    trained = Network.prepare(end, x, initial=start)
    return start_from(start, observe(trained, None, n_probes=len(x)), shares=[MIDDLE])
