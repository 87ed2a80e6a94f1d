"""Where a network is by its tangent kernel: what the learned change demands of it, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.location.demand import LinearisedTask, response_of
from geomfeat.location.kernel_demand import VECTORS, kernel_demand, relative_change
from geomfeat.models.trained_parameters import plain_name
from geomfeat.network import Network
from geomfeat.tangent import jvp, vjp

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
    # A network that is too heavy to form the kernel of a few outputs is so for that of all.
    vectors = VECTORS if task.gram is None or task.projection is not None else None
    near, far = (_coefficients(task, share) for share in (SHARE, SHARE_ON_TARGET))
    found = kernel_demand(
        f, inputs, vjp(f, inputs, near), far, vjp(f, inputs, far), vectors=vectors, seed=seed
    )  # fmt: skip
    if not known:
        return KernelPlace(found.demand, found.on_target)
    after = end.within(start.space).in_metric(start.metric).f
    moved = relative_change(f, after, inputs, vectors=vectors, seed=seed)
    excess = math.log10(moved) - found.at_response if moved > 0 and math.isfinite(found.at_response) else math.nan
    theta = {plain_name(name): value for name, value in after.theta.items()}
    step = {name: theta[plain_name(name)] - value for name, value in f.theta.items()}
    left = change.to(f.device) - jvp(f, inputs, step).to(change.dtype)
    return KernelPlace(found.demand, found.on_target, moved, excess, float(left.norm() / change.norm()))


def _coefficients(task: LinearisedTask, share: float) -> Tensor:
    """(n, C) a of all outputs, with Dtheta = J' a."""
    a = response_of(task, share).coefficients.reshape(task.change.shape)
    return a if task.projection is None else task.energy * a @ task.projection.mT


def mean_place(places: Sequence[KernelPlace]) -> KernelPlace:
    """The mean over several starts; -inf where one is."""
    columns = zip(*((p.demand, p.on_target, p.change, p.excess, p.gap) for p in places), strict=True)
    return KernelPlace(*(float(torch.tensor(column, dtype=torch.float64).mean()) for column in columns))
