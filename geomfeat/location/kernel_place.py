"""Where a network is by its tangent kernel: what the learned change demands of it, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.location.demand import LinearisedTask, response_of
from geomfeat.location.kernel_demand import VECTORS, demand_on_target, kernel_demand, relative_change
from geomfeat.models.nested_inputs import take
from geomfeat.models.trained_parameters import plain_name
from geomfeat.network import Network
from geomfeat.tangent import jvp, vjp

# The kernel is compared on so many of its rows (n * C) at most, at five points along the response: forming it takes the
# square of them. The demand on the target, by products, is on all probes.
ROWS = 512
FEWEST = 16
# Shares of the change that are left when the responses stop: that of the kernel, and that of its part on the target,
# where the last of a change says little.
SHARE, SHARE_ON_TARGET = 0.01, 0.1


@dataclass(frozen=True)
class KernelPlace:
    """Kernel demand and what happened to the kernel, from one set of initial weights.

    Attributes:
        demand, on_target: kappa and kappa_a, decades, see `kernel_demand`.
        change: |K_T - K_0|_F / |K_0|_F of the kernels after and before training. excess: log10 of it less that of the
            kernel's change at the linear response, decades.
        gap: linearisation gap |f_T - f_lin| / |f_T - f_0| on the probes, f_lin the network at theta_0, linearised, at
            theta_T. These three are NaN where the true initial weights are not known.
    """

    demand: float
    on_target: float
    change: float = math.nan
    excess: float = math.nan
    gap: float = math.nan


def kernel_place(
    start: Network, end: Network, task: LinearisedTask, change: Tensor, known: bool, seed: int
) -> KernelPlace:
    """The place from one start.

    Args:
        start: before training, in the parameters that moved and the optimizer's coordinates; `task` is of it.
        end: after training. change: (n, C) of the outputs. known: whether `start` is where training began.
    """
    f, inputs = start.f, task.inputs
    rows, kernel = _compared(task, change.shape[1])
    # A network that is too heavy to form the kernel of a few outputs is so for that of all.
    vectors = VECTORS if task.gram is None or task.projection is not None else None
    near, far = (_coefficients(task, share) for share in (SHARE, SHARE_ON_TARGET))
    part = take(inputs, rows)
    found = kernel_demand(f, part, vjp(f, inputs, near), vectors=vectors, seed=seed, start=kernel)
    on_target = demand_on_target(f, inputs, vjp(f, inputs, far), far)
    if not known:
        return KernelPlace(found.demand, on_target)
    after = end.within(start.space).in_metric(start.metric).f
    moved = relative_change(f, after, part, vectors=vectors, seed=seed, start=kernel)
    excess = math.log10(moved) - found.at_response if moved > 0 and math.isfinite(found.at_response) else math.nan
    theta = {plain_name(name): value for name, value in after.theta.items()}
    step = {name: theta[plain_name(name)] - value for name, value in f.theta.items()}
    left = change.to(f.device) - jvp(f, inputs, step).to(change.dtype)
    return KernelPlace(found.demand, on_target, moved, excess, float(left.norm() / change.norm()))


def _compared(task: LinearisedTask, n_outputs: int) -> tuple[Tensor, Tensor | None]:
    """The probes on which the kernel is compared, evenly spread, and the start's kernel on them if it is known."""
    n = min(task.n, max(FEWEST, ROWS // n_outputs))
    rows = torch.arange(n, device=task.change.device) * task.n // n
    if task.gram is None or task.projection is not None:
        return rows, None
    index = (rows[:, None] * n_outputs + torch.arange(n_outputs, device=rows.device)).flatten().to(task.gram.device)
    return rows, task.gram[index][:, index]


def _coefficients(task: LinearisedTask, share: float) -> Tensor:
    """(n, C) a of all outputs, with Dtheta = J' a."""
    a = response_of(task, share).coefficients.reshape(task.change.shape)
    return a if task.projection is None else task.energy * a @ task.projection.mT
