"""What the parts of a location cost, timed on a few samples, and how many of each there are.

A location is made of few kinds of work: products K v (a backward pass and a derivative along a direction), features
along a direction, kernels, and the algebra on them. How many of each it takes follows from the way that it will go
(`effort_of`, `linearised_task`, `kernel_place`). Time grows linearly with the probes, but for kernels, whose part also
grows with their square.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from geomfeat.location.demand import is_formed
from geomfeat.location.initial_states import Observed
from geomfeat.location.kernel_forms import VECTORS, kernel_product
from geomfeat.location.kernel_interval import FEW_KEPT, KEPT
from geomfeat.location.kernel_place import FEWEST, ROWS
from geomfeat.location.kernel_sketch import SUMS, kernel_sketch, n_outputs_of
from geomfeat.location.planning.effort import Effort
from geomfeat.memory import resident_bytes
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.models.trained_parameters import plain_name
from geomfeat.network import Network
from geomfeat.numerics import stream
from geomfeat.tangent import ntk
from geomfeat.tangent.jacobians._memory_budget import saved_bytes
from geomfeat.tangent.layerwise.coverage import plan as coverage
from geomfeat.tangent.layerwise.factored_jacobian import rest_fits
from geomfeat.tangent.layerwise.last_layer import last_layer

FORMED, PRODUCTS, GUIDED = "formed kernel", "products", "guided products"
FACTORS, FEW = "factors in few directions", "formed kernel of few directions"
TIMED = (2, 6)  # samples on which work is timed: what does not grow with them shows in the difference
# How many of each kind of work, counted in runs of the shapes of benchmarks/large_networks.py and of small networks.
LANCZOS, SEARCH = 120, 12  # products of a solution without a guess at the kernel, at most, and with one
FEWER = 3, 2  # Lanczos takes a third of the rows where they are few, and resamples, less precise, half of that
AT_PLACE = 5  # kernels along the response, after training, and before
ON_TARGET = 5  # products for the demand on the target
IN_INTERVAL, KERNELS_IN_INTERVAL = 2, 1  # products, and kernels, for each resample whose response is kept
SKETCH = 1.3  # of a product: the time of a kernel's sketch in coordinates that keep its factors
FROM_FACTORS = 0.5  # of a product: a resample's features along what its factors give
CHECKS = 4  # products: looking for the rules of layers, verifying them and the ways of differentiation
COPIES = 5  # of the parameters held at the peak: weights, directions, gradients, and what the allocator keeps


@dataclass(frozen=True)
class Curve:
    """Seconds of work on n samples: fixed + each n + pairs n^2."""

    fixed: float = 0.0
    each: float = 0.0
    pairs: float = 0.0

    def __call__(self, n: int) -> float:
        return self.fixed + self.each * n + self.pairs * n**2


@dataclass(frozen=True, eq=False)
class Costs:
    """Costs of one network.

    Attributes:
        way: how it will be located, one of FORMED, PRODUCTS, GUIDED, FACTORS, FEW. product, kernel: seconds of one.
        activations: bytes that the backward pass of a sample saves. itemsize: bytes of a parameter.
    """

    effort: Effort
    way: str
    n_outputs: int
    n_parameters: int
    dtype: str
    itemsize: int
    product: Curve
    kernel: Curve
    activations: int

    def seconds(self, n: int, n_starts: int) -> float:
        """Of a location on n probes."""
        product, kernel = self.product(n), self.kernel(n)
        solutions, rows = self.effort.n_bootstrap + 2 * self.effort.orders, n * self.n_outputs
        kept = min(self.effort.n_bootstrap, KEPT if self.way == FORMED else FEW_KEPT)
        first = (len(self.effort.shares) + ON_TARGET + CHECKS) * product
        each = FROM_FACTORS if self.way == FACTORS else 1.0
        again = (solutions * each + kept * IN_INTERVAL) * product
        if self.way == FORMED:
            part = min(n, max(FEWEST, ROWS // self.n_outputs))
            first += kernel + AT_PLACE * self.kernel(part) + len(self.effort.shares) * algebra(rows)
            again += solutions * algebra(rows) + kept * KERNELS_IN_INTERVAL * product  # by vectors
        elif self.way == PRODUCTS:
            lanczos = min(LANCZOS, rows // FEWER[0])
            first += (lanczos + VECTORS * AT_PLACE) * product
            again += (solutions * lanczos / FEWER[1] + kept * KERNELS_IN_INTERVAL) * product
        else:
            first += (1 + AT_PLACE) * kernel + (SEARCH * product if self.way == GUIDED else 0.0)
            again += kept * KERNELS_IN_INTERVAL * kernel
        return n_starts * first + again

    def memory(self, n: int) -> float:
        """Bytes of the process at the peak of a location on n probes."""
        rows = n * self.n_outputs
        own = {FORMED: 6 * 8 * rows**2, GUIDED: 2 * 8 * rows * 2 * SEARCH}.get(self.way, 0)
        held = COPIES * self.n_parameters * self.itemsize + n * self.activations
        return float(resident_bytes() + held + own)


def measured_costs(observed: Observed, effort: Effort) -> Costs:
    """The costs of a network on its probes."""
    network = observed.network
    f, n, n_outputs = _as_located(network), len(observed.rows), observed.outputs.shape[1]
    few = {count: f.inputs(network.take(slice(0, count)).inputs) for count in TIMED}
    known = coverage(f.unscaled(), few[TIMED[1]])
    covered = bool(known.uses) and rest_fits(f, known, n, effort.projections or SUMS)
    way = _way(f, few[TIMED[1]], n, n_outputs, effort, covered)
    rough = way == FACTORS
    product = straight({count: seconds_of(lambda x=x: _product(f, x, rough)) for count, x in few.items()})
    in_place = SKETCH if covered else VECTORS
    kernel = Curve(in_place * product.fixed, in_place * product.each)
    if way == FORMED:
        kernel = bent({count: seconds_of(lambda x=x: ntk(f, x, outputs="full")) for count, x in few.items()})
    elif way != PRODUCTS and covered and f.scale:  # with a factor of every entry, kernels cost far more than products
        kernel = bent({count: seconds_of(lambda x=x: kernel_sketch(f, x, 0)) for count, x in few.items()})
    return Costs(
        effort, way, n_outputs, f.n_parameters, str(f.dtype).removeprefix("torch."), f.dtype.itemsize, product, kernel,
        saved_bytes(f, few[TIMED[0]])[0],
    )  # fmt: skip


def _as_located(network: Network) -> Functional:
    """The network in coordinates that cost as much as those of its optimizer: a factor for every entry."""
    adaptive = frozenset[str]() if network.rates is None else network.rates.adaptive
    scale = {name: torch.ones_like(p) for name, p in network.f.theta.items() if plain_name(name) in adaptive}
    return network.f.scaled(scale) if scale else network.f


def straight(times: dict[int, float]) -> Curve:
    """fixed + each n through two times.

    >>> straight({2: 5.0, 6: 13.0})
    Curve(fixed=1.0, each=2.0, pairs=0.0)
    """
    (few, first), (many, last) = times.items()
    each = max(0.0, (last - first) / (many - few))
    return Curve(max(0.0, first - few * each), each)


def bent(times: dict[int, float]) -> Curve:
    """each n + pairs n^2 through two times.

    >>> bent({2: 8.0, 4: 24.0})
    Curve(fixed=0.0, each=2.0, pairs=1.0)
    """
    (few, first), (many, last) = times.items()
    pairs = max(0.0, (last / many - first / few) / (many - few))
    return Curve(0.0, max(0.0, first / few - few * pairs), pairs)


def algebra(rows: int) -> float:
    """Seconds of a solution with a kernel that is there: eigenvectors of few rows, products with more."""
    return 1e-9 * rows**3 if rows <= 512 else 1e-8 * rows**2


def _way(f: Functional, few: Any, n: int, n_outputs: int, effort: Effort, covered: bool) -> str:
    """As `linearised_task` and `through_all_outputs` choose; `covered`: by the rules for layers, or nearly so."""
    if effort.projections is None or effort.projections >= n_outputs:
        return FORMED if is_formed(n * n_outputs, f.n_parameters, effort.method) else PRODUCTS
    if effort.method == "products":
        return PRODUCTS
    if effort.all_outputs and (last := last_layer(f, few)) is not None and last.features() is not None:
        return GUIDED
    if covered:
        return FACTORS
    return FEW if is_formed(n * effort.projections, f.n_parameters, effort.method) else PRODUCTS


def _product(f: Functional, inputs: Any, rough: bool) -> None:
    """Factors leave few products, for what three digits do."""
    n, c = n_samples(inputs), n_outputs_of(f, inputs)
    v = torch.randn(n, c, generator=stream(0, "plan"), dtype=torch.float64)
    kernel_product(f, inputs, v, rough=rough)


def seconds_of(work: Callable[[], Any]) -> float:
    """Of the second of two calls: the first one looks up what later ones know."""
    work()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
