"""What a location will take, before it is begun: seconds and memory, from the costs of a few samples.

A location is made of few kinds of work: products K v (a backward pass and a derivative along a direction), features
along a direction, kernels, and the algebra on them. Each is timed on a few samples; how many of each a location takes
follows from the way that it will go (`effort_of`, `linearised_task`, `kernel_place`). Time grows linearly with the
probes, but for formed kernels, whose part grows with their square.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from geomfeat.activations.layer_selection import Patterns
from geomfeat.data.batch_streams import reread
from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.location.demand import FACTORED, FORMED_MULTIPLICATIONS, FORMED_ROWS
from geomfeat.location.initial_states import Observed, observe
from geomfeat.location.kernel_forms import VECTORS
from geomfeat.location.kernel_interval import FEW_KEPT, KEPT
from geomfeat.location.kernel_place import FEWEST, ROWS
from geomfeat.location.options import LocateOptions
from geomfeat.location.planning.effort import Effort, effort_of
from geomfeat.memory import in_gigabytes, resident_bytes
from geomfeat.models.functional import Functional, Readout
from geomfeat.models.readouts.prefixes import sampled
from geomfeat.models.readouts.reading import reading_of
from geomfeat.network import Network
from geomfeat.numerics import stream
from geomfeat.tangent import jvp, ntk, vjp
from geomfeat.tangent.jacobians._memory_budget import saved_bytes
from geomfeat.tangent.layerwise.coverage import plan as coverage
from geomfeat.tangent.tangent_space import Params
from geomfeat.types import Snapshot

FORMED, PRODUCTS, GUIDED, FACTORS = "formed kernel", "products", "guided products", "factors in few directions"
TIMED = (2, 6)  # samples on which a product is timed: what does not grow with them shows in the difference
# How many of each kind of work, counted in runs of the shapes of benchmarks/large_networks.py and of small networks.
LANCZOS, SEARCH = 120, 12  # products of a solution without a guess at the kernel, at most, and with one
FEWER = 3, 2  # Lanczos takes a third of the rows where they are few, and resamples, less precise, half of that
AT_PLACE = 6  # kernels along the response, after training, and before
ON_TARGET = 6  # products for the demand on the target
IN_INTERVAL = 4  # products for each resample whose response is kept
SKETCH = 1.3  # of a product: the time of a kernel's sketch
CHECKS = 6  # products: looking for the rules of layers, verifying them and the ways of differentiation
COPIES = 12  # of the parameters held at the peak: networks, directions, gradients, and what the allocator keeps


@dataclass(frozen=True, eq=False)
class LocationPlan(BaseResult):
    """What a location will take on this machine.

    Attributes:
        way: "formed kernel", "products", "guided products" or "factors in few directions".
        n_probes, n_outputs: of them. n_parameters: that were trained. dtype: of the computation.
        n_bootstrap: resamples for the interval. n_starts: sets of initial weights.
        seconds: expected, within a factor of about two. memory: expected peak of the process, bytes.
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
    params: Params | None = None,
    readout: Readout | str | None = None,
    ladder: bool = False,
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
    reading, inputs, _ = sampled(end, reading, inputs, 0)
    network = Network.prepare(
        end, inputs, layers=layers, initial=begin, params=params, readout=reading, device=device
    )  # fmt: skip
    observed = observe(network, None, n_probes=options.n_probes)
    effort = effort_of(observed, options, known=initial is not None, climbed=ladder)
    return plan_of(observed, effort, 1 if initial is not None else options.n_reinitialisations)


def plan_of(observed: Observed, effort: Effort, n_starts: int) -> LocationPlan:
    """The plan for a network that is observed on its probes."""
    f, inputs = observed.network.f, observed.network.inputs
    return _Costs.measured(f, inputs, observed, effort).at(len(observed.rows), n_starts)


def probes_within(
    observed: Observed, effort: Effort, n_starts: int, budget: tuple[float | None, float | None]
) -> LocationPlan:
    """The plan with the most probes, of those that are observed, that keeps within (seconds, bytes).

    Raises BadInput where four probes take more.
    """
    f, inputs = observed.network.f, observed.network.inputs
    costs = _Costs.measured(f, inputs, observed, effort)
    seconds, memory = (float("inf") if most is None else most for most in budget)
    for n in range(len(observed.rows), 3, -1):
        plan = costs.at(n, n_starts)
        if plan.seconds <= seconds and plan.memory <= memory:
            return plan
    least = costs.at(4, n_starts)
    raise BadInput(
        f"budget={budget}: 4 probes, the fewest, take about {least.seconds:.2g} s and {in_gigabytes(least.memory)}: "
        "raise it, name fewer layers, or use movement alone (gf.movement), which takes two forward passes"
    )


@dataclass(frozen=True, eq=False)
class _Costs:
    """Seconds of the kinds of work: fixed + each * n for a product; and of a formed kernel of 4 and 8 samples."""

    f: Functional
    effort: Effort
    way: str
    n_outputs: int
    fixed: float
    each: float
    kernel: tuple[float, float]
    activations: int

    @classmethod
    def measured(cls, f: Functional, inputs: Any, observed: Observed, effort: Effort) -> _Costs:
        n_outputs = observed.outputs.shape[1]
        few = [f.inputs(observed.network.take(slice(0, n)).inputs) for n in TIMED]
        times = [_seconds(lambda x=x: _product(f, x)) for x in few]
        each = max(0.0, (times[1] - times[0]) / (TIMED[1] - TIMED[0]))
        way = _way(f, few[1], len(observed.rows), n_outputs, effort)
        kernel = (0.0, 0.0)
        if way == FORMED:
            some = [f.inputs(observed.network.take(slice(0, n)).inputs) for n in (4, 8)]
            four, eight = (_seconds(lambda x=x: ntk(f, x, outputs="full")) for x in some)
            kernel = four, eight
        return cls(
            f, effort, way, n_outputs, max(0.0, times[0] - TIMED[0] * each), each, kernel, saved_bytes(f, few[0])[0]
        )

    def at(self, n: int, n_starts: int) -> LocationPlan:
        product = self.fixed + self.each * n
        solutions = self.effort.n_bootstrap + 2 * self.effort.orders
        shares = len(self.effort.shares)
        directions = self.effort.projections or self.n_outputs
        kept = min(self.effort.n_bootstrap, KEPT if self.way == FORMED else FEW_KEPT)
        first = shares * product + ON_TARGET * product + CHECKS * product
        again = solutions * (product + self._algebra(n * directions)) + kept * IN_INTERVAL * product
        rows = n * self.n_outputs
        if self.way == FORMED:
            part = min(n, max(FEWEST, ROWS // self.n_outputs))
            first += self._formed(n) + AT_PLACE * self._formed(part) + self._algebra(rows) * shares
        elif self.way == PRODUCTS:
            lanczos = min(LANCZOS, rows // FEWER[0])
            first += (lanczos + VECTORS * AT_PLACE) * product
            again += solutions * lanczos / FEWER[1] * product
        else:
            first += AT_PLACE * SKETCH * product + (SEARCH * product if self.way == GUIDED else 0.0)
        parameters = self.f.n_parameters * self.f.dtype.itemsize
        basis = 2 * 8 * rows * 2 * SEARCH if self.way == GUIDED else 0
        memory = (
            resident_bytes() + COPIES * parameters + n * self.activations + basis
            + (6 * 8 * rows**2 if self.way == FORMED else 0)
        )  # fmt: skip
        return LocationPlan(
            self.way, n, self.n_outputs, self.f.n_parameters, str(self.f.dtype).removeprefix("torch."),
            self.effort.n_bootstrap, n_starts, n_starts * first + again, float(memory), product,
        )  # fmt: skip

    def _formed(self, n: int) -> float:
        """Seconds of a kernel of n samples: a part that grows with them, and one with their pairs."""
        four, eight = self.kernel
        pairs = max(0.0, (eight - 2 * four) / (64 - 2 * 16))
        return max(0.0, four - 16 * pairs) / 4 * n + pairs * n**2

    @staticmethod
    def _algebra(rows: int) -> float:
        """Seconds of a solution with a kernel that is there: eigenvectors of few rows, products with more."""
        return 1e-9 * rows**3 if rows <= 512 else 1e-8 * rows**2


def _way(f: Functional, few: Any, n: int, n_outputs: int, effort: Effort) -> str:
    rows = n * n_outputs
    if effort.projections is None or effort.projections >= n_outputs:
        cheap = rows <= FORMED_ROWS and rows**2 * f.n_parameters <= FORMED_MULTIPLICATIONS
        return FORMED if cheap else PRODUCTS
    covered = len(coverage(f, few).covered) == len(f.theta)
    known = covered and n * effort.projections * f.n_parameters > FACTORED
    return GUIDED if effort.all_outputs else FACTORS if known else PRODUCTS


def _product(f: Functional, inputs: Any) -> None:
    with torch.no_grad():
        outputs = f(f.theta, inputs)
    v = torch.randn(outputs.shape, generator=stream(0, "plan"), dtype=torch.float64).to(outputs)
    jvp(f, inputs, vjp(f, inputs, v))


def _seconds(work: Callable[[], Any]) -> float:
    """Of the second of two calls: the first one looks up what later ones know."""
    work()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
