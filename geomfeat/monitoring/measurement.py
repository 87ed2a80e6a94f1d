"""One measurement: the network at its present weights against the start, by the formulas of `locate`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.location.demand import (
    FEW_SHARES,
    FORMED_MULTIPLICATIONS,
    ROUGH,
    LinearisedTask,
    is_formed,
    linearised_task,
    solve,
)  # fmt: skip
from geomfeat.location.kernel_demand import KernelDemand, kernel_demand
from geomfeat.location.kernel_forms import compact_kernel
from geomfeat.location.movement import movement, outputs_and_features
from geomfeat.location.regimes import regime_of
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import batches, take
from geomfeat.monitoring.quiet import undisturbed, weights_now
from geomfeat.monitoring.start import MANY_OUTPUTS, MonitorStart
from geomfeat.monitoring.unit_checks import dead_shares, spreads
from geomfeat.numerics import WORKING
from geomfeat.precision import roundings
from geomfeat.registry import Measure
from geomfeat.tangent import ntk, vjp
from geomfeat.tangent.layerwise.structured_kernel import Changed
from geomfeat.tangent.metric import PLAIN_METRIC, RATES, Metric, metric_of
from geomfeat.tangent.optimizer_rates import OptimizerRates, optimizer_rates
from geomfeat.types import Representation

AT_ONCE = 256  # held-out samples in one forward pass
# The kernel is compared on so many of its rows (n * C), and at least on so many probes.
KERNEL_ROWS, FEWEST = 128, 16
FAIR = 0.02  # decades: precision of the kernel demand
# A kernel is formed again at every measurement, so only where that takes a hundredth of what a location may spend.
FORMED = FORMED_MULTIPLICATIONS / 100

Numbers = dict[str, float]


@dataclass(frozen=True, eq=False)
class Measured:
    """Numbers of the network and of its layers; `note` says why some are missing."""

    network: Numbers
    layers: dict[str, Numbers]
    regime: str = ""
    note: str = ""


class Measurement:
    """Measures a network against its start; keeps what does not change from one measurement to the next.

    Args:
        start: the network before training. kernel: "demand", "change", "none" or "auto", see `MonitorOptions`.
        projections: directions in place of more than 16 outputs. measures: of layers, or of pairs (start, now).
        optimizer: what trains, or None: rates by group are read once, what it divides by at every measurement.
    """

    def __init__(
        self, start: MonitorStart, *, kernel: str, projections: int, measures: Sequence[Measure], optimizer: Any
    ) -> None:
        self.start = start
        self.measures = tuple(measures)
        self.optimizer = optimizer
        n, c = start.outputs.shape
        self.projections = projections if c > MANY_OUTPUTS else None
        outline = start.weights.outline
        few = min(n, max(FEWEST, KERNEL_ROWS // c))
        self.compared = take(start.inputs, torch.arange(few, device=outline.device) * n // few)
        rows, parameters = n * c, sum(math.prod(p.shape) for p in outline.theta.values())
        self.formed = is_formed(rows, parameters, "auto") and rows**2 * parameters <= FORMED
        self.kernel = kernel if kernel != "auto" else "demand" if self.formed else "change"
        self._task: LinearisedTask | None = None
        self._metric: Metric | None = None
        self._whole: Callable[[Functional], Tensor] | None = None
        self._first: Tensor | None = None
        self._near: KernelDemand | None = None

    def __call__(self, model: nn.Module) -> Measured:
        """The numbers at the present weights of `model`."""
        start = self.start
        with undisturbed(start.weights.outline.device, start.seed):
            now = weights_now(start.weights.outline, model)
            if not all(bool(torch.isfinite(value).all()) for value in now.theta.values()):
                return Measured({}, {}, note="the weights hold NaN or infinite values")
            outputs, features = outputs_and_features(now, start.inputs, start.layers, needed=start.needed)
            outputs, features = outputs.to(start.outputs), self._features(features)
            if not all(bool(torch.isfinite(t).all()) for t in (outputs, *features.values())):
                return Measured({}, {}, note="outputs or features hold NaN or infinite values")
            layers = self._layers(now, features)
            network: Numbers = self._losses(now, outputs)
            change = outputs - start.outputs
            regime = ""
            if float(change.norm()) > roundings(now.dtype)[0] * float(start.outputs.norm()):
                regime = self._compare(model, now, change, layers, network)
            self._run_measures(features, layers)
            return Measured(network, layers, regime)

    def _features(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        padding = self.start.padding
        kept = {name: h for name, h in features.items() if name in self.start.features}
        return kept if padding is None else {name: padding.cleared(name, h) for name, h in kept.items()}

    def _layers(self, now: Functional, features: Mapping[str, Tensor]) -> dict[str, Numbers]:
        dead, wide = dead_shares(now, self.start.inputs, self.start.layers, self.start.seed), spreads(features)
        moved = movement(self.start.features, features)
        return {
            name: {"movement": m, "spread": wide[name], "dead": dead.get(name, math.nan)} for name, m in moved.items()
        }

    def _losses(self, now: Functional, outputs: Tensor) -> Numbers:
        found = {}
        for name, goal in self.start.goals.items():
            if goal.inputs is not None:
                with torch.no_grad():
                    outputs = torch.cat([now(now.theta, part) for _, part in batches(goal.inputs, AT_ONCE)])
            found[name] = goal.of(outputs)
        return found

    def _compare(
        self, model: nn.Module, now: Functional, change: Tensor, layers: dict[str, Numbers], network: Numbers
    ) -> str:
        """Fill in what is relative to the initial weights; returns the regime."""
        with self.start.weights.opened() as f:
            network["weight_change"] = weight_change(f, now)
            outline, metric = self.start.weights.outline, self._metric_of(f, model, change)
            scaled = f.scaled(metric.scale) if metric.scale else f
            task = self._towards(scaled, change)
            demand = solve(task, rtol=ROUGH)
            if self.kernel != "none":
                at = now.scaled(metric.scale) if metric.scale else now
                direction = {name: task.energy * d for name, d in demand.pulled().items()}
                self._compare_kernels(scaled, at, direction, network)
            self._task = None if task.projection is not None or metric is not self._metric else replace(task, f=outline)
        asked, moving = demand.layers, [name for name, of in layers.items() if of["movement"] > -math.inf]
        for name, of in layers.items():
            of["richness"] = asked[name] if of["movement"] > -math.inf else -math.inf
            both = math.isfinite(of["movement"]) and math.isfinite(of["richness"])
            of["excess"] = of["movement"] - of["richness"] if both else math.nan
        able = [asked[name] for name in moving if asked[name] > -math.inf]
        network["richness"] = sum(able) / len(able) if able else -math.inf
        moved = [layers[name]["movement"] for name in moving]
        network["movement"] = sum(moved) / len(moved) if moved else -math.inf
        finite = math.isfinite(network["movement"]) and math.isfinite(network["richness"])
        network["excess"] = network["movement"] - network["richness"] if finite else math.nan
        return regime_of(
            network["richness"], network["movement"], network.get("kernel_demand", math.nan),
            network.get("kernel_change", math.nan), math.nan, max(moved, default=None),
        )  # fmt: skip

    def _metric_of(self, f: Functional, model: nn.Module, change: Tensor) -> Metric:
        if self.optimizer is None:
            self._metric = PLAIN_METRIC
        if self._metric is not None:
            return self._metric
        rates: OptimizerRates = optimizer_rates(self.optimizer, model)
        metric = metric_of(rates, f.theta, lambda: vjp(f, self.start.inputs, change))
        # Plain rates stay as they are; what an adaptive optimizer divides by changes with every step.
        self._metric = metric if metric.source == RATES else None
        if self._metric is None:
            self._first = None
        return metric

    def _towards(self, f: Functional, change: Tensor) -> LinearisedTask:
        if self._task is not None:
            return replace(self._task, f=f).towards(change)
        task = linearised_task(
            f, self.start.inputs, change, self.start.layers, shares=FEW_SHARES, projections=self.projections,
            method="kernel" if self.formed else "auto", seed=self.start.seed,
        )  # fmt: skip
        return replace(task, padding=self.start.padding)

    def _compare_kernels(
        self, f: Functional, now: Functional, direction: Mapping[str, Tensor], network: Numbers
    ) -> None:
        if self._whole is None:
            self._whole = self._kernel_of(f)
        try:
            first = self._first if self._first is not None else self._whole(f)
            there = self._whole(now)
        except Changed:  # the network computes in another way at these weights
            return
        self._first = first
        size = float(first.norm())
        network["kernel_change"] = float((there - first).norm()) / size
        network["kernel_size"] = float(there.norm()) / size
        network["kernel_turn"] = kernel_turn(first, there)
        if self.kernel == "demand":
            found = kernel_demand(
                f, self.compared, direction, kernel=self._whole, precision=FAIR, start=first, near=self._near
            )
            network["kernel_demand"] = found.demand
            self._near = found if math.isfinite(found.demand) else None

    def _kernel_of(self, f: Functional) -> Callable[[Functional], Tensor]:
        inputs = self.compared
        if self.formed:
            return lambda at: ntk(at, inputs, outputs="full").gram.to(WORKING)
        return compact_kernel(f, inputs, self.start.seed).whole

    def _run_measures(self, features: Mapping[str, Tensor], layers: dict[str, Numbers]) -> None:
        for name, h in features.items() if self.measures else ():
            reps = [Representation(x.to(WORKING), self.start.labels, name) for x in (self.start.features[name], h)]
            for measure in self.measures:
                given = reps if measure.scope == "pair" else reps[1:]
                for quantity, estimate in measure.run(*given).items():
                    layers[name][quantity] = float(estimate.value) if estimate.ok else math.nan


def kernel_turn(first: Tensor, there: Tensor) -> float:
    """Angle between two kernels in radians, which their size does not change.

    >>> round(kernel_turn(torch.eye(2), torch.diag(torch.tensor([3.0, 0.0]))) / math.pi, 6)
    0.25
    """
    a, b = first.flatten() / first.norm(), there.flatten() / there.norm()
    cosine = float(a @ b)
    # By the distance to the line of the first: an arc cosine would lose half of the digits.
    return math.atan2(float((b - cosine * a).norm()), cosine)


def weight_change(f: Functional, now: Functional) -> float:
    """|theta - theta_0| / |theta_0| over all trained parameters."""
    moved = sum(float((now.theta[name] - value).square().sum()) for name, value in f.theta.items())
    size = sum(float(value.square().sum()) for value in f.theta.values())
    return math.sqrt(moved / size) if size > 0 else math.inf
