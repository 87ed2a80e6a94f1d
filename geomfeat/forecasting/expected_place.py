"""The place that a forecasted change of outputs has between lazy and rich, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtri
from torch import Tensor

from geomfeat.forecasting.result import COLUMNS
from geomfeat.forecasting.start import TrainingStart
from geomfeat.forecasting.straight_change import ONE, between, share_of_straight, straight_change
from geomfeat.location.all_outputs import through_all_outputs
from geomfeat.location.demand import FORMED_ROWS, MIDDLE, LinearisedTask, linearised_task, solve
from geomfeat.location.demand_interval import bootstrap, spread
from geomfeat.location.kernel_interval import standard_errors
from geomfeat.location.kernel_place import KernelPlace, kernel_place, whole_demand
from geomfeat.location.regimes import regime_without_start
from geomfeat.models.functional import Functional
from geomfeat.numerics import WORKING
from geomfeat.tangent import feature_jvp

LEVEL = 0.9
# What 90 % of forecasts err by, in decades (142 trainings of six kinds of networks over three decades of output
# scales): of R by the loss, by an optimizer that divides by the size of gradients, of R above 1.5, where networks leave
# the linear range far behind, and of kappa.
ERRORS = {"mse": 0.05, "cross-entropy": 0.22}
ERROR_OF_OTHERS = 0.22  # losses by which nothing was measured: the larger one
ERROR_WHEN_ADAPTIVE = 0.09
ERROR_WHEN_RICH, VERY_RICH = 0.63, 1.5
KERNEL_ERROR = 0.21
MANY_OUTPUTS, PROJECTIONS = 16, 4  # above so many outputs, and too many rows, resamples go through so few of them


@dataclass(frozen=True, eq=False)
class ExpectedPlace:
    """Demands, table of layers, and intervals; see `Forecast` for each."""

    demands: Demands
    layers: pd.DataFrame
    half: float
    intervals: dict[str, tuple[float, float]]

    @property
    def regime(self) -> str:
        """The word, by demand alone."""
        return word_of(self.demands.richness, self.demands.kernel_demand)


def task_at(start: TrainingStart) -> LinearisedTask:
    """The linearised network on the probes, with its kernel formed where it is small enough; towards no change yet."""
    n, c = start.outputs.shape
    method = "kernel" if n * c <= FORMED_ROWS else "auto"
    task = linearised_task(
        start.network.f, start.network.inputs, start.outputs, start.network.layers.names, method=method
    )
    return replace(task, padding=start.observed.padding)


def expected_place(
    start: TrainingStart, task: LinearisedTask, change: Tensor, movement: dict[str, float], seed: int, n_bootstrap: int
) -> ExpectedPlace:
    """The place of a training whose linearised network changes its outputs by `change` (n, C).

    `movement`: M by layer, NaN where it is not forecasted.
    """
    found = demands(start, task, change, seed)
    kernel = found.kernels[0]
    samples, resamples = bootstrap(found.tasks[0].stopped_at(MIDDLE).cheapest, n_bootstrap, seed, groups=start.groups)
    error = max(ERRORS.get(start.loss.kind, ERROR_OF_OTHERS), ERROR_WHEN_ADAPTIVE if start.facts.adaptive else 0.0)
    error = ERROR_WHEN_RICH if found.richness > VERY_RICH else error
    z = float(ndtri(0.5 + LEVEL / 2))
    halves = {name: float(np.hypot(z * sd, error)) for name, sd in spread(samples).items()}
    kernel_halves = {
        name: float(np.hypot(z * sd, KERNEL_ERROR))
        for name, sd in standard_errors(kernel.of_resample, resamples).items()
    }
    values = {"kernel_demand": found.kernel_demand, "kernel_demand_on_target": found.kernel_demand_on_target}
    intervals = {
        name: (value - kernel_halves[name], value + kernel_halves[name])
        for name, value in values.items()
        if math.isfinite(value) and math.isfinite(kernel_halves.get(name, math.nan))
    }
    rows = []
    for name, r in found.layers.items():
        half, share = halves[name], kernel.by_layer.get(name, (math.nan, math.nan))[0]
        rows.append((name, r, r - half, r + half, movement.get(name, math.nan), word_of(r), share))
    return ExpectedPlace(found, pd.DataFrame(rows, columns=list(COLUMNS)), halves["richness"], intervals)


@dataclass(frozen=True, eq=False)
class Demands:
    """Of the change of the linearised network, and of the one straight along the loss's gradient where it differs.

    Attributes:
        tasks: towards each of them. richness_of, layers_of: R of each, and by layer. kernels: where the kernel is.
        share: of the way to the second that is expected.
    """

    tasks: tuple[LinearisedTask, ...]
    richness_of: tuple[float, ...]
    layers_of: tuple[dict[str, float], ...]
    kernels: tuple[KernelPlace, ...]
    share: float

    @property
    def words(self) -> dict[str, Any]:
        """R and kappa of each change, and the share of the second: for the details of a result."""
        kappa = [kernel.demand.demand for kernel in self.kernels]
        return {"richness": list(self.richness_of), "kernel_demand": kappa, "share_of_straight": self.share}

    @property
    def richness(self) -> float:
        """R that is expected."""
        return between(self.richness_of, self.share)

    @property
    def layers(self) -> dict[str, float]:
        """Of every layer."""
        return {name: between([layers[name] for layers in self.layers_of], self.share) for name in self.layers_of[0]}

    @property
    def kernel_demand(self) -> float:
        """kappa that is expected."""
        return between([kernel.demand.demand for kernel in self.kernels], self.share)

    @property
    def kernel_demand_on_target(self) -> float:
        """kappa_a that is expected."""
        return between([kernel.on_target.demand for kernel in self.kernels], self.share)


def demands(start: TrainingStart, task: LinearisedTask, change: Tensor, seed: int, *, kernels: bool = True) -> Demands:
    """The demands of a training whose linearised network changes its outputs by `change` (n, C).

    `kernels`: whether those of the kernel are wanted too, beside the one that R takes.
    """
    changes = [change, *_straight(start, change)]
    tasks = [towards(start, task, one, seed) for one in changes]
    found = [solve(one) for one in tasks]
    if len(found) == 2 and not abs(found[0].richness - found[1].richness) > ONE:
        changes, tasks, found = changes[:1], tasks[:1], found[:1]
    places, share, network = (), 0.0, start.network
    if kernels:
        wanted = zip(changes, tasks, strict=True)
        places = tuple(kernel_place(network, network, one, c, False, seed) for c, one in wanted)
    if len(found) == 2:
        first = places[0].demand if places else whole_demand(network, tasks[0], change.shape[1], seed)
        share = share_of_straight(first.demand)
    return Demands(tuple(tasks), tuple(d.richness for d in found), tuple(d.layers for d in found), places, share)


def _straight(start: TrainingStart, change: Tensor) -> list[Tensor]:
    """The straight change to the loss that this one leads to, if there is one."""
    straight = straight_change(start.loss, start.outputs, start.loss.relative(start.outputs + change))
    return [] if straight is None else [straight]


def word_of(richness: float, kernel_demand: float = math.nan) -> str:
    """The regime that is expected; "frozen" for features that no trained weight moves.

    >>> word_of(-1.5, -1.0), word_of(0.8, 0.5), word_of(-float("inf"))
    ('lazy', 'rich', 'frozen')
    """
    if richness == -math.inf:
        return "frozen"
    return regime_without_start(richness, False, math.nan, kernel_demand)


def linear_movement(start: TrainingStart, f: Functional, direction: dict[str, Tensor]) -> dict[str, float]:
    """M of every layer if parameters moved by `direction` and the network stayed linear: log10 of |J_h d| / |h|."""
    found: dict[str, float] = {}
    padding, rows = start.observed.padding, torch.arange(start.loss.n)
    cleared: Any = (lambda _, value: value) if padding is None else partial(_cleared, padding, rows)
    for name, pair in feature_jvp(f, start.network.inputs, start.network.layers.names, direction).items():
        feature, tangent = (cleared(name, part.to(WORKING)) for part in pair)
        length, size = float(tangent.norm()), float(feature.norm())
        found[name] = math.log10(length / size) if length > 0 else -math.inf
    return found


def _cleared(padding: Any, rows: Tensor, name: str, value: Tensor) -> Tensor:
    return padding.cleared(name, value, rows)


def towards(start: TrainingStart, task: LinearisedTask, change: Tensor, seed: int) -> LinearisedTask:
    """The linearised network, to change its outputs by `change` (n, C)."""
    if task.gram is not None or change.shape[1] <= MANY_OUTPUTS:
        return task.towards(change)
    few = linearised_task(
        start.network.f, start.network.inputs, change, task.layers, projections=PROJECTIONS, seed=seed
    )
    few = replace(few, padding=task.padding)
    return through_all_outputs(few, start.network.f, change) or task.towards(change)
