"""Changes that take a network to another place between lazy and rich, each verified by a forecast."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.forecasting.advising.changed_forecast import Changed, adaptive_of, rebound
from geomfeat.forecasting.advising.initial_scale import search_scale
from geomfeat.forecasting.advising.width_rates import width_rates
from geomfeat.forecasting.origin import Origin
from geomfeat.forecasting.result import Forecast
from geomfeat.location.advice.change import AS_IT_IS, OUTPUTS, REACHED, SCALE, WIDTH, AdvisedChange, code_of
from geomfeat.location.advice.goal import Goal, goal_of
from geomfeat.location.advice.rescaling import Rescaling
from geomfeat.location.advice.result import Advice

# Forecasts hold to this many decades; multipliers beyond these leave too few digits even to float64.
EXACT, TRIALS = 0.01, 6
LARGEST_MULTIPLIER = 1e5
VERY_RICH = 1.5


def advise(
    expected: Forecast, origin: Origin, target: float | str, *, wider: nn.Module | None, init_scale: bool
) -> Advice:
    """See `Forecast.advise`."""
    goal = goal_of(target, expected.richness, expected.kernel_demand)
    origin.require_untrained()
    if wider is not None:
        width_rates(origin.model, wider, adaptive=adaptive_of(origin))  # refuses a network that is no wider copy
    if goal.is_met and wider is None:
        changes = [_as_it_is(expected, origin, goal)]
    else:
        scaled = _scaled_outputs(origin, expected, goal)
        changes = [scaled]
        if init_scale and not goal.is_met:
            changes += _scaled_weights(origin, expected, goal)
        if wider is not None:
            changes.append(_at_width(origin, goal, wider, scaled))
    return Advice(goal.richness, goal.word, expected.richness, tuple(changes), _flags(expected, goal))


def _scaled_outputs(origin: Origin, expected: Forecast, goal: Goal) -> AdvisedChange:
    changed, found = _solve(Changed(origin), expected.richness, goal.richness).safely()
    q = changed.rescaling.speed_of(adaptive_of(origin))
    way = "lazier" if changed.multiplier > 1 else "richer"
    reason = (
        f"Weights must change {_times(1 / changed.multiplier)} as much for the same change of outputs, so training is "
        f"{way}; learning is {_times(q)} as fast at one rate, and {_rate_words(changed, found, adaptive_of(origin))}."
    )
    return _described(OUTPUTS, changed, found, goal, reason)


def _solve(changed: Changed, richness: float, wanted: float) -> Changed:
    """The multiplier of centred outputs at which R is `wanted`, from a guess of R at multiplier 1."""
    scale = 0.0
    for _ in range(TRIALS):
        # R falls by one decade for each of the multiplier, but for the share of the way between two changes.
        scale += richness - wanted
        if not abs(scale) <= math.log10(LARGEST_MULTIPLIER):
            raise BadInput(
                f"target: R = {wanted:+.2f} takes an output multiplier of 10^{scale:.1f}, beyond what numbers resolve "
                f"(10^-5 to 10^5): ask for R between {wanted + scale - 5:+.1f} and {wanted + scale + 5:+.1f}"
            )
        c = float(f"{10**scale:.4g}")
        rescaling = replace(changed.rescaling, multiplier=c)
        if changed.origin.arguments["n_steps"] is not None:
            # As many steps must do as much: where their number ends the training, rates are raised too.
            rescaling = replace(rescaling, rate=1 / rescaling.speed_of(adaptive_of(changed.origin)))
        changed = replace(changed, multiplier=c, rescaling=rescaling)
        richness = changed.expected().richness
        if not math.isfinite(richness):
            raise BadInput(
                f"with centred outputs R is {richness}: at the start no hidden layer moves the outputs (a read-out of "
                "zero?), so no multiplier makes the training lazier or richer; start from another read-out"
            )
        if abs(richness - wanted) < EXACT:
            break
    return changed


def _scaled_weights(origin: Origin, expected: Forecast, goal: Goal) -> list[AdvisedChange]:
    found = search_scale(origin, expected, goal.richness)
    if found is None or not _reached(found[1], goal):
        # Large weights make large outputs at the start, which have to be unlearned: without them R can fall further.
        centred = search_scale(origin, expected, goal.richness, multiplier=1.0)
        found = centred if centred is not None and _nearer(centred[1], found, goal) else found
    if found is None:
        return []
    changed, forecast = found[0].safely()
    if origin.optimizer is None and not forecast.proposed_rate > 0:
        return []  # no rate is known to be stable where the kernel has to change without bound
    factor = next(iter(changed.init_scale.values()))
    slope = (forecast.richness - expected.richness) / math.log10(factor)
    outputs = "stay as they are" if math.isnan(changed.multiplier) else "are centred, or those at the start would grow"
    reason = f"R changes by {slope:+.1f} decades per decade of initial scale (found by forecasts); outputs {outputs}."
    return [_described(SCALE, changed, forecast, goal, reason)]


def _nearer(richness: float, other: tuple[Changed, float] | None, goal: Goal) -> bool:
    return other is None or abs(richness - goal.richness) < abs(other[1] - goal.richness)


def _at_width(origin: Origin, goal: Goal, wider: nn.Module, scaled: AdvisedChange) -> AdvisedChange:
    adaptive = adaptive_of(origin)
    rates, grown = width_rates(origin.model, wider, adaptive=adaptive)
    rescaling = replace(scaled.rescaling, by_parameter=rates)
    changed = Changed(_moved(origin, wider), rescaling=rescaling)
    changed = _solve(
        replace(changed, rescaling=replace(rescaling, speed=scaled.rescaling.speed_of(adaptive))),
        goal.richness + math.log10(scaled.multiplier) - math.log10(grown) / 2, goal.richness,
    )  # fmt: skip
    changed, found = changed.safely()
    reason = (
        f"Rates by layer keep what a step does to every layer as the width of the last grows {grown:.3g}-fold (muP), "
        "and the output multiplier sets R."
    )
    return _described(WIDTH, changed, found, goal, reason)


def _moved(origin: Origin, wider: nn.Module) -> Origin:
    """The same questions about the wider network, by an optimizer of its own parameters."""
    return replace(origin, model=wider, arguments={**origin.arguments, "optimizer": _same_optimizer(origin, wider)})


def _same_optimizer(origin: Origin, wider: nn.Module) -> Any:
    if not isinstance(origin.optimizer, torch.optim.Optimizer):
        return origin.optimizer
    return rebound(origin.optimizer, origin.model, wider, Rescaling(speed=1.0))


def _described(kind: str, changed: Changed, found: Forecast, goal: Goal, reason: str) -> AdvisedChange:
    rate = found.proposed_rate if changed.origin.optimizer is None else found.rate
    return AdvisedChange(
        kind, found.richness, multiplier=changed.multiplier, init_scale=changed.init_scale,
        rescaling=changed.rescaling, low=found.low, high=found.high, kernel_demand=found.kernel_demand,
        regime=found.regime, movement=found.movement, excess=found.excess, verified=True,
        reached=_reached(found.richness, goal), rate=rate, stable_rate=found.stable_rate,
        proposed_rate=found.proposed_rate,
        reason=reason, code=_code(changed, rate),
    )  # fmt: skip


def _code(changed: Changed, rate: float) -> str:
    model, groups = changed.groups(rate)
    return code_of(changed.multiplier, changed.init_scale, groups, model, changed.origin.optimizer)


def _reached(richness: float, goal: Goal) -> bool:
    beyond = {"lazy": richness < goal.richness, "rich": richness > goal.richness}.get(goal.word, False)
    return beyond or abs(richness - goal.richness) <= REACHED


def _as_it_is(expected: Forecast, origin: Origin, goal: Goal) -> AdvisedChange:
    reason = f"It will be {goal.word} without any change, beyond the thresholds by a margin."
    changed = Changed(origin, rescaling=Rescaling(speed=1.0))
    return _described(AS_IT_IS, changed, expected, goal, reason)


def _times(factor: float) -> str:
    return f"{float(f'{factor:.2g}'):,.10g} times"


def _rate_words(changed: Changed, found: Forecast, adaptive: bool) -> str:
    if changed.origin.optimizer is None:
        return f"half of the largest stable rate is {found.proposed_rate:.2g}"
    factor, own = changed.rescaling.rate_factor(adaptive), changed.rescaling.speed_of(adaptive)
    if factor < 0.999 * min(1.0, 1 / own):
        return f"the rate is multiplied by {factor:.2g}, down to one that is stable"
    return "the rate is kept, since curvature grows" if factor == 1 else f"the rate is multiplied by {factor:.2g}"


def _flags(expected: Forecast, goal: Goal) -> tuple[str, ...]:
    flags = list(expected.flags)
    if goal.richness > VERY_RICH and expected.richness <= VERY_RICH:
        flags.insert(0, f"R > {VERY_RICH} is asked for: so far from the linear range R was up to a decade off.")
    return tuple(flags)
