"""Train the linearised network by the user's own optimizer: how far it moves features in the linear range."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.forecasting.output_loss import OutputLoss
from geomfeat.models.functional import Readout, call
from geomfeat.models.nested_inputs import moved
from geomfeat.numerics import WORKING
from geomfeat.regimes.linearization.linearized_module import linearize

MOST_STEPS = 600


@dataclass(frozen=True, eq=False)
class OptimizerRun:
    """What the optimizer made of the linearised network.

    Attributes:
        step: name -> how far each parameter moved. steps: made. loss: relative to that of outputs 0, at the end.
        reached: whether that is at most the target.
    """

    step: Mapping[str, Tensor]
    steps: int
    loss: float
    reached: bool


def run_linearised(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Any,
    loss: OutputLoss,
    *,
    readout: Readout | None,
    target: float | None,
    most: int = MOST_STEPS,
) -> OptimizerRun | None:
    """Full-batch steps on a copy until the target, or for `most`; None where the optimizer holds other parameters.

    Momentum and second moments start as they are in the optimizer; neither it nor the model is changed. Weight decay
    is part of the optimizer, and works.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if any(id(p) not in names for p in held):
        return None
    flat = linearize(model, readout)
    place = next(iter(flat.parameters()))
    own = dict(flat.named_parameters())
    before = {name: p.detach().clone() for name, p in own.items()}
    rebound = _rebound(optimizer, {p: own[names[id(p)]] for p in held})
    x, targets = moved(inputs, place.device, place.dtype), loss.targets.to(place.device)
    targets = targets.to(place.dtype) if targets.is_floating_point() else targets
    steps, now = 0, float("inf")
    while True:
        out = call(flat, x)
        value = loss.value(out, targets)
        now = float(value.detach()) / loss.unit
        if (target is not None and now <= target) or steps >= most or not torch.isfinite(value):
            break
        rebound.zero_grad()
        value.backward()
        rebound.step()
        steps += 1
    step = {name: (p.detach() - before[name]).to(WORKING) for name, p in own.items() if p.requires_grad}
    return OptimizerRun(step, steps, now, target is not None and now <= target)


def _rebound(optimizer: torch.optim.Optimizer, places: Mapping[Tensor, Tensor]) -> torch.optim.Optimizer:
    """A copy of the optimizer that holds other tensors in place of its own."""
    # Its class may take other arguments than its groups hold, so it is copied rather than made anew.
    other = copy.copy(optimizer)
    other.param_groups = []
    for group in optimizer.param_groups:
        options = {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
        # A schedule is left aside, as it is for the metric: the rate is that it began with.
        options["lr"] = options.get("initial_lr", options["lr"])
        other.param_groups.append({**options, "params": [places[p] for p in group["params"]]})
    state: defaultdict[Tensor, Any] = defaultdict(dict)
    for p, kept in optimizer.state.items():
        state[places[p]] = copy.deepcopy(kept)
    other.state = state
    return other
