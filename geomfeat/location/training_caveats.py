"""Flags of a location about how the network was trained and written: what makes demand and movement part ways."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from geomfeat.location.initial_states import Observed, Start
from geomfeat.location.regimes import BY_OPTIMIZER, KERNEL_RESTS
from geomfeat.location.result import Location
from geomfeat.location.unit_balance import unit_balances
from geomfeat.models.nested_inputs import take
from geomfeat.models.trained_parameters import by_names_of, plain_name
from geomfeat.tangent import feature_jvp, jvp, vjp
from geomfeat.tangent.metric import PLAIN

# R at a share of .002 less R at .05: .1 to .2 in ordinary networks.
STEEP = 0.5
# kappa_a - kappa: the part of the kernel that acts on the target moves that much more than the whole.
SURPLUS = 1.2
# A read-out that the linear response multiplies by more than this, although the demand on the features is small.
GROWN_READOUT = 10.0
FEW = 4  # probes on which it is checked that a parameter moves no feature
# The change of the outputs by one step of the optimizer, relative to what was learned.
LONG_STEP = 0.5
KEPT, LOST, OTHER_RATES = 0.95, 0.6, 0.2  # cosines of unit balance; decades between the rates
SHRUNK = 0.8  # norm of the trained weights relative to that at the start


def training_flags(location: Location, start: Start, observed: Observed) -> list[str]:
    """All of them that apply, in order of weight; only where the true initial weights are known, but for steepness."""
    found = [_steep(start), _surplus(location)]
    if location.tier == "initial" and not start.all_frozen:
        found = [
            _beyond(location, start, observed), _long_step(start, observed), _balance(start, observed),
            _small_readout(location, start), *found,
        ]  # fmt: skip
    return [text for text in found if text]


def _steep(start: Start) -> str:
    steepness = start.demand.steepness
    if not steepness > STEEP:
        return ""
    return (
        f"A part of the change needs far more movement than the rest: R is {steepness:.1f} decades higher with .2 % of "
        "the change left than with 5 % (.1 to .2 in ordinary networks). R is the mean between, so small differences in "
        "how long training went on move it."
    )


def _surplus(location: Location) -> str:
    surplus = location.kernel_demand_on_target - location.kernel_demand
    if not surplus > SURPLUS:
        return ""
    return (
        f"The target uses a part of the tangent kernel that moves more than the whole: its kernel demand is "
        f"{location.kernel_demand_on_target:+.2f}, that of the whole {location.kernel_demand:+.2f}. The network is "
        "further from its linear model than the whole kernel shows."
    )


def _beyond(location: Location, start: Start, observed: Observed) -> str:
    if location.regime != BY_OPTIMIZER:
        return ""
    parts = []
    if location.excess > 0 and location.richness < 0:
        parts.append(f"its features moved {location.excess:+.2f} decades")
    if location.kernel_excess > 0 and location.kernel_demand < KERNEL_RESTS:
        parts.append(f"its kernel {location.kernel_excess:+.2f} decades")
    size = _weights_now(start, observed)
    cause = (
        f"Its weights shrank to {size:.0%} of their size: weight decay" if size < SHRUNK
        else "Its weights did not shrink, so not weight decay: large steps (a catapult) or gradient noise"
    )  # fmt: skip
    return f"Moved by the optimizer: {' and '.join(parts)} further than this function required. {cause}."


def _weights_now(start: Start, observed: Observed) -> float:
    """Norm of the parameters that moved, after training relative to before."""
    f, after = start.task.f, _after(start, observed)
    scale: Mapping[str, Tensor | float] = f.scale
    before = {name: value * scale.get(name, 1.0) for name, value in f.theta.items()}
    norms = [math.sqrt(sum(float(v.square().sum()) for v in theta.values())) for theta in (after, before)]
    return norms[0] / norms[1] if norms[1] > 0 else math.inf


def _after(start: Start, observed: Observed) -> dict[str, Tensor]:
    """The parameters after training, as they are, by the names of the start's."""
    return by_names_of(start.task.f.theta, observed.network.within(start.space).f.theta)


def _long_step(start: Start, observed: Observed) -> str:
    """Adam's first step moves every entry by the rate, whatever its gradient."""
    rates = observed.network.rates
    if rates is None or not rates.adaptive:
        return ""
    f, change = start.task.f, start.task.change
    pulled = vjp(f, start.task.inputs, change)
    own = {name: plain_name(name) for name in pulled}
    rate = {name: rates.rates.get(own[name], 0.0) if own[name] in rates.adaptive else 0.0 for name in pulled}
    step = {name: rate[name] * g.sign() / f.scale.get(name, 1.0) for name, g in pulled.items()}
    rho = float(jvp(f, start.task.inputs, step).norm() / change.norm())
    if not rho >= LONG_STEP:
        return ""
    return (
        f"Rate beyond the linear range: one step of this optimizer at the start changes the outputs by {rho:.1f} times "
        "what was learned (below .5, demand describes such training). Its steps, not the function, set how far it "
        "moved."
    )


def _balance(start: Start, observed: Observed) -> str:
    """What the units say about the optimizer, where nobody else does."""
    if start.metric != PLAIN:
        return ""
    found = unit_balances(start.task.f, _after(start, observed), start.task.inputs)
    kept = [one for one in found if one.cosine > KEPT and abs(one.log_ratio) > OTHER_RATES]
    if kept:
        worst = max(kept, key=lambda one: abs(one.log_ratio))
        return (
            f"The optimizer is not known, and {worst.first} and {worst.second} moved as under rates in the ratio 1 : "
            f"{10**worst.log_ratio:.2g}. R and kernel demand assume equal rates: give the optimizer (optimizer=)."
        )
    lost = [one for one in found if one.cosine < LOST]
    if lost:
        worst = min(lost, key=lambda one: one.cosine)
        return (
            f"Not plain gradient descent: the units between {worst.first} and {worst.second} did not keep the balance "
            f"that it keeps (cosine {worst.cosine:.2f}, 1 under small steps). R and kernel demand assume it: give the "
            "optimizer (optimizer=)."
        )
    return ""


def _small_readout(location: Location, start: Start) -> str:
    """A weight after all hidden layers that is small at the start holds their gradients back until it has grown."""
    if not location.richness < 0:
        return ""
    task = start.task
    grown = {}
    for name, step in start.demand.pulled().items():
        size, length = float(task.f.theta[name].norm()), float(step.norm())
        if step.ndim > 1 and 0 < GROWN_READOUT * size < length and _moves_no_feature(start, name, step):
            grown[name] = length / size
    if not grown:
        return ""
    name = max(grown, key=lambda key: grown[key])
    return (
        f"Small read-out: the linear response multiplies {name}, which acts after all hidden layers, by "
        f"{grown[name]:.2g}. Features get their gradient through it, so R reads lower than with a larger one although "
        "training is the same. Go by M, the kernel's change and the linearisation gap."
    )


def _moves_no_feature(start: Start, name: str, step: Tensor) -> bool:
    task = start.task
    few = take(task.inputs, torch.arange(min(FEW, task.n), device=task.change.device))
    moved = feature_jvp(task.f, few, task.layers, {key: step if key == name else torch.zeros_like(value)
                                                   for key, value in task.f.theta.items()})  # fmt: skip
    return not any(bool(tangent.any()) for _, tangent in moved.values())
