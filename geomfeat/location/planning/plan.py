"""What a location will take, before it is begun: seconds and memory, from the costs of a few samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from geomfeat.activations.layer_selection import Patterns
from geomfeat.data.batch_streams import reread
from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.location.initial_states import Observed, observe
from geomfeat.location.options import LocateOptions
from geomfeat.location.planning.costs import Costs, measured_costs
from geomfeat.location.planning.effort import Effort, effort_of
from geomfeat.memory import in_gigabytes
from geomfeat.models.functional import Readout
from geomfeat.models.readouts.prefixes import sampled
from geomfeat.models.readouts.reading import reading_of
from geomfeat.network import Network
from geomfeat.tangent.tangent_space import Params
from geomfeat.types import Snapshot


@dataclass(frozen=True, eq=False)
class LocationPlan(BaseResult):
    """What a location will take on this machine.

    Attributes:
        way: "formed kernel", "products", "guided products" or "factors in few directions".
        n_probes, n_outputs: of them. n_parameters: that were trained. dtype: of the computation.
        n_bootstrap: resamples for the interval. n_starts: sets of initial weights.
        seconds: expected, within a factor of about two, or three for a second or so.
        memory: expected peak of the process, bytes.
        product_seconds: of one product with the kernel of the probes.
    """

    way: str
    n_probes: int
    n_outputs: int
    n_parameters: int
    dtype: str
    n_bootstrap: int
    n_starts: int
    seconds: float
    memory: float
    product_seconds: float

    def __str__(self) -> str:
        starts = "" if self.n_starts == 1 else f", {self.n_starts} sets of fresh weights"
        return (
            f"location of {self.n_parameters / 1e6:.3g} million parameters: {self.n_probes} probes, {self.n_outputs} "
            f"outputs, {self.n_bootstrap} resamples{starts}; by {self.way}, in {self.dtype}: about "
            f"{self.seconds:.2g} s, {self.product_seconds:.2g} s for a product with the kernel, and "
            f"{in_gigabytes(self.memory)} at the peak"
        )


def plan_location(
    model: nn.Module | Snapshot,
    inputs: Any,
    *,
    initial: nn.Module | Snapshot | None = None,
    optimizer: Any = None,
    params: Params | None = None,
    readout: Readout | str | None = None,
    ladder: bool = False,
    seed: int = 0,
    layers: Patterns = "*",
    device: str | torch.device | None = None,
    options: LocateOptions = LocateOptions(),
) -> LocationPlan:
    """How long `locate` with these arguments will take, and how much memory, measured on a few samples.

    Args:
        ladder: whether one will be trained, which is not counted itself. Others as in `locate`.

    >>> start, end = (nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2)) for _ in range(2))
    >>> plan = plan_location(end, torch.randn(40, 8), initial=start)
    >>> plan.way, plan.n_probes, plan.seconds > 0
    ('formed kernel', 40, True)
    """
    end, begin = (m.model if isinstance(m, Snapshot) else m for m in (model, initial))
    assert end is not None
    reading = reading_of(end, readout, options.loss)
    inputs, _ = reread(end, inputs, None, why="plan_location")
    optimizer = model.optimizer if optimizer is None and isinstance(model, Snapshot) else optimizer
    reading, inputs, _ = sampled(end, reading, inputs, seed)
    network = Network.prepare(
        end, inputs, layers=layers, initial=begin, params=params, optimizer=optimizer, readout=reading, device=device
    )
    observed = observe(network, None, n_probes=options.n_probes, seed=seed)
    effort = effort_of(observed, options, known=initial is not None, climbed=ladder)
    n_starts = 1 if initial is not None else options.n_reinitialisations
    return _plan(measured_costs(observed, effort), len(observed.rows), n_starts)


def probes_within(
    observed: Observed, effort: Effort, n_starts: int, budget: tuple[float | None, float | None]
) -> LocationPlan:
    """The plan with the most probes, of those that are observed, that keeps within (seconds, bytes).

    Raises BadInput where four probes take more.
    """
    costs = measured_costs(observed, effort)
    seconds, memory = (float("inf") if most is None else most for most in budget)
    for n in range(len(observed.rows), 3, -1):
        plan = _plan(costs, n, n_starts)
        if plan.seconds <= seconds and plan.memory <= memory:
            return plan
    least = _plan(costs, 4, n_starts)
    raise BadInput(
        f"budget={budget}: 4 probes, the fewest, take about {least.seconds:.2g} s and {in_gigabytes(least.memory)}: "
        "raise it, name fewer layers, or use movement alone (gf.movement), which takes two forward passes"
    )


def _plan(costs: Costs, n: int, n_starts: int) -> LocationPlan:
    return LocationPlan(
        costs.way, n, costs.n_outputs, costs.n_parameters, costs.dtype, costs.effort.n_bootstrap, n_starts,
        costs.seconds(n, n_starts), costs.memory(n), costs.product(n),
    )  # fmt: skip
