"""Where a network is by its tangent kernel: what the learned change demands of it, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from geomfeat.location.demand import LinearisedTask, responses_of
from geomfeat.location.kernel_by_layer import Grams, change_by_layer
from geomfeat.location.kernel_demand import CHANGED, PRECISION, KernelDemand, demand_on_target, kernel_demand
from geomfeat.location.kernel_forms import KernelForm, compact_kernel, formed_kernel, kernel_product, whole_of
from geomfeat.location.kernel_interval import OfResample, Resample, ResampledResponse, Squares, along_response, measured
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import take
from geomfeat.models.trained_parameters import by_names_of
from geomfeat.network import HEAVY, Network
from geomfeat.numerics import WORKING
from geomfeat.regimes.linearization.response import Response
from geomfeat.tangent import jvp, vjp
from geomfeat.tangent.jacobians.products import value_and_jvp
from geomfeat.tangent.jacobians.small_steps import length, moved_along, moved_in_place, once
from geomfeat.tangent.layerwise.factored_jacobian import share_rules
from geomfeat.tangent.layerwise.structured_kernel import Changed

# The kernel is compared on so many of its rows (n * C) at most, at five points along the response: forming it takes the
# square of them. The demand on the target, by products, is on all probes.
ROWS = 512
FEWEST = 16
MANY_OUTPUTS = 16  # of a heavy network, above which its kernel is not formed
# Shares of the change that are left when the responses stop: that of the kernel, and that of its part on the target,
# where the last of a change says little.
SHARE, SHARE_ON_TARGET = 0.01, 0.1
ROUGH = 0.05  # decades: precision of demands that only show the spread
RESPONSE = 0.15  # of the responses of a guided search, relative: a demand is then off by .03 decades or less
FAIR = 0.02  # decades: of a demand whose kernel is an estimate itself, within about .06


@dataclass(frozen=True, eq=False)
class KernelPlace:
    """Kernel demand and what happened to the kernel, from one set of initial weights.

    Attributes:
        demand, on_target: kappa and kappa_a, see `kernel_demand`.
        change: |K_T - K_0|_F / |K_0|_F of the kernels after and before training. excess: log10 of it less that of the
            kernel's change at the linear response, decades.
        gap: linearisation gap |f_T - f_lin| / |f_T - f_0| on the probes, f_lin the network at theta_0, linearised, at
            theta_T. These three are NaN where the true initial weights are not known.
        by_layer: layer -> its share of the kernel's change at the demand, and of the measured change; empty for a
            network whose kernel is too large to be formed.
        of_resample: name of a `Location`'s number -> that of a resample, which its error is from.
    """

    demand: KernelDemand
    on_target: KernelDemand
    change: float = math.nan
    excess: float = math.nan
    gap: float = math.nan
    by_layer: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    of_resample: Mapping[str, OfResample] = field(default_factory=dict)


def kernel_place(
    start: Network, end: Network, task: LinearisedTask, change: Tensor, known: bool, seed: int
) -> KernelPlace:
    """The place from one start.

    Args:
        start: before training, in the parameters that moved and the optimizer's coordinates; `task` is of it.
        end: after training. change: (n, C) of the outputs. known: whether `start` is where training began.
    """
    change = change.to(task.change.device, task.change.dtype)
    try:
        return _place(start, end, task, change, known, _compared(start.f, task, change.shape[1], seed))
    except Changed:  # the network computes in another way at some of the weights, which vectors do not mind
        compared = _compared(start.f, task, change.shape[1], seed, sketched=False)
        return _place(start, end, task, change, known, compared)


def _place(
    start: Network, end: Network, task: LinearisedTask, change: Tensor, known: bool, compared: tuple[Tensor, KernelForm]
) -> KernelPlace:
    rows, form = compared
    kernel = form.by_module
    found = _demands(start.f, task, form)
    first, reached = form.first or kernel(start.f), found.reached
    energy = task.cheapest.energy
    of_demand = _spread_of(start.f, form, rows, found.demand, energy)
    of_resample = {
        "kernel_demand": of_demand,
        "kernel_demand_on_target": _on_target(start.f, task, found),
    }
    layered = len(first) > 1
    shares = change_by_layer(first, reached, task.layers) if layered else dict.fromkeys(task.layers, math.nan)
    by_layer = {name: (share, math.nan) for name, share in shares.items()}
    if not known:
        return KernelPlace(found.demand, found.on_target, by_layer=by_layer, of_resample=of_resample)
    after = end.within(start.space).in_metric(start.metric).f
    share_rules(start.f, after)
    last, left = kernel(after), _unexplained(start.f, after, task.inputs, change)
    before, changed = whole_of(first), whole_of(last) - whole_of(first)
    outputs = change.square().sum(1), left.square().sum(1)
    moved_by = measured((form.squares(before), form.squares(changed)), rows)
    # A sketch's change at the response is taken from that at s*, a power of s away.
    of_response = None if form.is_sketch else _spread_of(start.f, form, rows, None, energy)

    def there(resample: Resample) -> float:
        return found.demand.slope * of_demand(resample) if of_response is None else of_response(resample)

    of_resample |= {
        "kernel_change": moved_by,
        "kernel_excess": lambda resample: moved_by(resample) - there(resample),
        "linearisation_gap": measured(outputs, torch.arange(task.n, device=change.device)),
    }
    if layered:
        happened = change_by_layer(first, last, task.layers)
        by_layer = {name: (share, happened[name]) for name, share in shares.items()}
    moved = float(changed.norm() / before.norm())
    excess = math.log10(moved) - found.demand.at_response if moved > 0 and found.demand.finite else math.nan
    gap = float(left.norm() / change.norm())
    return KernelPlace(found.demand, found.on_target, moved, excess, gap, by_layer, of_resample)


def rough_place(start: Network, task: LinearisedTask, n_outputs: int, near: KernelPlace, seed: int) -> KernelPlace:
    """The demands alone from another start, near those of the first: with a kernel or two."""
    try:
        found = _demands(start.f, task, _compared(start.f, task, n_outputs, seed)[1], near=near)
    except Changed:
        found = _demands(start.f, task, _compared(start.f, task, n_outputs, seed, sketched=False)[1], near=near)
    return KernelPlace(found.demand, found.on_target)


def whole_demand(start: Network, task: LinearisedTask, n_outputs: int, seed: int) -> KernelDemand:
    """The demand on the whole kernel alone, as `kernel_place` finds it."""

    def of(form: KernelForm) -> KernelDemand:
        (response,) = responses_of(task, SHARE, precise=RESPONSE)
        return kernel_demand(
            start.f, task.inputs, _pulled(start.f, task, response), kernel=form.whole, precision=_precision(form),
            start=form.start,
        )  # fmt: skip

    try:
        return of(_compared(start.f, task, n_outputs, seed)[1])
    except Changed:
        return of(_compared(start.f, task, n_outputs, seed, sketched=False)[1])


def _precision(form: KernelForm) -> float:
    return PRECISION if form.is_formed else FAIR


@dataclass(frozen=True, eq=False)
class _Demands:
    """Both demands, and what is known from their search.

    Attributes:
        reached: kernels by module at s* of the first; none near those of another start. outputs: (n, C) at theta0.
        shorter: length of the response of the second over that of the first.
    """

    demand: KernelDemand
    on_target: KernelDemand
    reached: Grams
    outputs: Tensor
    shorter: float


def _demands(f: Functional, task: LinearisedTask, form: KernelForm, near: KernelPlace | None = None) -> _Demands:
    """Both demands, that of the whole kernel in this form."""
    end, middle = responses_of(task, SHARE, SHARE_ON_TARGET, precise=RESPONSE)
    precision = ROUGH if near is not None else _precision(form)
    seen: list[Grams] = []

    def kernel(at: Functional) -> Tensor:
        if not form.is_sketch:
            return form.whole(at)
        seen.append(form.by_module(at))
        return whole_of(seen[-1])

    direction = _pulled(f, task, end)
    demand = kernel_demand(
        f, task.inputs, direction, kernel=kernel, precision=precision, start=form.start, near=near and near.demand
    )  # fmt: skip
    reached: Grams = {}
    if near is None:
        reached = _at_demand(seen, form, demand, precision) or form.by_module(f.at(_reached(f, direction, demand)))
    longer = length(direction)
    del direction  # each is as large as the network
    direction = _pulled(f, task, middle)
    shorter = length(direction) / longer
    along, there = direction, direction
    if task.rows is not None:
        along = partial(_pulled, f, task, middle)
        there = once(direction, along)
    outputs, start = value_and_jvp(f, f.inputs(task.inputs), there, rough=form.is_sketch)
    del direction, there
    on_target = demand_on_target(
        f, task.inputs, along, _coefficients(task, middle), precision=ROUGH if form.is_sketch else precision,
        start=start.to(WORKING), near=near and near.on_target, guess=demand if form.is_sketch else None,
        rough=form.is_sketch,
    )  # fmt: skip
    return _Demands(demand, on_target, reached, outputs, shorter)


def _pulled(f: Functional, task: LinearisedTask, response: Response) -> dict[str, Tensor]:
    """Dtheta of a response, for the whole change."""
    if task.rows is None:
        return vjp(f, task.inputs, _coefficients(task, response))
    return task.rows.pulled(task.energy * response.coefficients.reshape(task.change.shape))


def _at_demand(seen: list[Grams], form: KernelForm, demand: KernelDemand, precision: float) -> Grams | None:
    """Of the kernels that a search saw, the one at s*, as far as its precision goes; None for none."""
    if form.start is None or not math.isfinite(demand.demand):
        return None
    for parts in reversed(seen):
        change = float((whole_of(parts) - form.start).norm() / form.start.norm())
        if change > 0 and abs(math.log10(change / CHANGED)) <= precision * demand.slope:
            return parts
    return None


def _spread_of(f: Functional, form: KernelForm, rows: Tensor, demand: KernelDemand | None, energy: float) -> OfResample:
    """The kernel's change at s* along the response of a resample; without a demand at the response itself.

    `energy`: of the task that was resampled, by which responses to the whole change are longer.
    """
    before = form.start if form.is_sketch and form.start is not None else form.rough(f, None)

    @cache
    def squares(response: ResampledResponse) -> Squares:
        counted = torch.nonzero(torch.isin(rows, response.drawn.to(rows.device))).flatten()
        try:
            after = form.rough(f.at(_reached(f, response.direction, demand, energy)), counted)
        except Changed:  # no number of this resample
            after = torch.full_like(before, math.nan)
        return form.rough_squares(before), form.rough_squares(after - before)

    return along_response(squares, rows, 1.0 if demand is None else demand.slope)


def _on_target(f: Functional, task: LinearisedTask, found: _Demands) -> OfResample:
    """The same on the target, K a; a resample's response is of the share of the other demand, so it is shortened."""
    inputs, every = f.inputs(task.inputs), torch.arange(task.n, device=f.device)
    demand = replace(found.on_target, demand=found.on_target.demand - math.log10(found.shorter))
    few = task.cheapest

    def squares(response: ResampledResponse) -> Squares:
        a = response.coefficients if few.projection is None else response.coefficients @ few.projection.mT
        some = response.drawn.to(f.device)
        x, a, outputs = take(inputs, some), a.to(f.device, f.dtype)[some], found.outputs[some]
        before = value_and_jvp(f, x, response.direction, rough=True, values=outputs)[1].to(WORKING)
        step = _step(demand, few.energy)
        # The direction's memory serves the weights along it, where it is computed anew from its factors.
        move = moved_along if few.rows is None else moved_in_place
        at = f.at({**f.theta, **move(f.theta, response.direction, step)})
        response.release()
        after = kernel_product(at, x, a, rough=True)
        found_squares = torch.zeros(2, task.n, dtype=WORKING, device=f.device)
        found_squares[:, some] = torch.stack([before.square().sum(1), (after - before).square().sum(1)])
        return found_squares[0], found_squares[1]

    return along_response(squares, every, demand.slope)


def _reached(
    f: Functional, direction: Mapping[str, Tensor], demand: KernelDemand | None, energy: float = 1.0
) -> dict[str, Tensor]:
    """theta0 + s* energy Dtheta; at s = 1 without a demand, and where the kernel never changes by its share."""
    return {**f.theta, **moved_along(f.theta, direction, _step(demand, energy))}


def _step(demand: KernelDemand | None, energy: float) -> float:
    return energy * (10**-demand.demand if demand is not None and math.isfinite(demand.demand) else 1.0)


def _unexplained(f: Functional, after: Functional, inputs: Any, change: Tensor) -> Tensor:
    """(n, C) what the network at theta_0, linearised, leaves of the change at the weights after training."""
    end = by_names_of(f.theta, after.theta)
    step = {name: end[name] - value for name, value in f.theta.items()}
    return change - jvp(f, inputs, step).to(change.device, change.dtype)


def _compared(
    f: Functional, task: LinearisedTask, n_outputs: int, seed: int, *, sketched: bool = True
) -> tuple[Tensor, KernelForm]:
    """The probes on which the kernel is compared, evenly spread, and the form in which it is."""
    n = min(task.n, max(FEWEST, ROWS // n_outputs))
    rows = torch.arange(n, device=task.change.device) * task.n // n
    part = take(task.inputs, rows)
    # A network that is too heavy to form the kernel of a few outputs is so for that of all. For a ladder all outputs
    # are compared even of a large network: forming their kernel at five points takes many minutes.
    heavy = f.n_parameters > HEAVY and n_outputs > MANY_OUTPUTS
    if task.gram is None or task.projection is not None or heavy:
        return rows, compact_kernel(f, part, seed, sketched=sketched)
    index = (rows[:, None] * n_outputs + torch.arange(n_outputs, device=rows.device)).flatten().to(task.gram.device)
    return rows, formed_kernel(f, part, n_outputs, task.gram[index][:, index], seed)


def _coefficients(task: LinearisedTask, response: Response) -> Tensor:
    """(n, C) a of all outputs, with Dtheta = J' a."""
    a = response.coefficients.reshape(task.change.shape)
    return a if task.projection is None else task.energy * a @ task.projection.mT
