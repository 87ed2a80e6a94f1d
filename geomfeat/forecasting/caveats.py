"""Flags of a forecast: where it is known to fail, and what it left out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomfeat.forecasting.expected_place import ERRORS, VERY_RICH, ExpectedPlace
from geomfeat.forecasting.linear_training import LinearTraining
from geomfeat.forecasting.start import AT_ONCE, TrainingStart
from geomfeat.models.reinitialize import batchnorm_modules
from geomfeat.numerics import WORKING, stream
from geomfeat.tangent import jvp, vjp
from geomfeat.tangent.layerwise.last_layer import last_layer
from geomfeat.tangent.metric import GRADIENT, PLAIN_METRIC

# Share of the kernel that is of the read-out's own weights, above which the read-out is small beside the rest, and the
# relative loss below which a network has learned something already.
OF_READOUT, LEARNED = 0.97, 0.7
BEYOND_LINEAR = 0.5  # |J step| / |change| of one step of an optimizer that divides by gradients
OUT_OF_REACH = 0.1
DRAWS = 4
STARTING = 3  # in units of 1 / (1 - momentum): steps below which momentum has not reached its full rate


def flags_of(
    start: TrainingStart, training: LinearTraining, place: ExpectedPlace, target: float | None
) -> tuple[str, ...]:
    """All flags, in order of weight."""
    richness = place.demands.richness
    found = [
        _out_of_reach(training, target),
        _rich(richness),
        _momentum(start, richness),
        _few_steps(start, training),
        _loss(start),
        _readout(start),
        _learned(start),
        _rate(start, training.change),
        _adaptive(start),
        _part(start),
        _left_out(start),
        _batchnorm(start),
        *(f"{note[0].upper()}{note[1:]}." for note in start.notes),
    ]
    return tuple(text for text in found if text)


def _out_of_reach(training: LinearTraining, target: float | None) -> str:
    if target is None or training.reached:
        return ""
    return (
        f"The linearised network does not get to the target: its relative loss is {training.loss:.3g}, not "
        f"{target:.3g}. The forecast is for that: more of the change would demand more."
    )


def _rich(richness: float) -> str:
    if not richness > VERY_RICH:
        return ""
    return f"R > {VERY_RICH}: so far from the linear range forecasts were off by up to a decade, mostly too low."


def _momentum(start: TrainingStart, richness: float) -> str:
    if not (start.loss.kind == "cross-entropy" and start.facts.momentum > 0 and richness > 0):
        return ""
    return "Cross-entropy with momentum in the rich range: such forecasts were too low, by .1 to .9 decades."


def _few_steps(start: TrainingStart, training: LinearTraining) -> str:
    """Momentum m moves at its full rate after some 1 / (1 - m) steps."""
    steps = training.time / start.facts.flow_rate
    if (
        training.by_steps
        or start.facts.adaptive
        or not start.facts.momentum > 0
        or not steps < STARTING / (1 - start.facts.momentum)
    ):
        return ""
    return (
        f"About {steps:.0f} steps at this rate: too few to be the flow that is forecasted, while momentum still builds "
        "up. Such trainings were off by .1 to .4 decades."
    )


def _loss(start: TrainingStart) -> str:
    if start.loss.kind in ERRORS:
        return ""
    flat = start.loss.steepest_at(start.outputs) == 0
    rates = "; it has no curvature at the start, so no rate is unstable there" if flat else ""
    return f"How far forecasts by {start.loss.name} are off is not known; the interval is that of cross-entropy{rates}."


def _readout(start: TrainingStart) -> str:
    share = readout_share(start)
    if not share > OF_READOUT:
        return ""
    return (
        f"{100 * share:.1f} % of the kernel are of the read-out's own weights: the read-out is small, and R says so, "
        "while the training is hardly another. With cross-entropy forecasts were then off by -.5 decades; kappa is the "
        "number to go by."
    )


def readout_share(start: TrainingStart) -> float:
    """Share of the kernel's trace that is of the last linear layer; NaN where there is none."""
    f, inputs = start.network.f, start.network.inputs
    last = last_layer(f, f.inputs(inputs))
    if last is None:
        return math.nan
    own = whole = 0.0
    for number in range(DRAWS):
        v = torch.randn(start.outputs.shape, generator=stream(0, "forecast", "read-out", number), dtype=WORKING)
        sizes = {name: float(g.square().sum()) for name, g in vjp(f, inputs, v.to(start.outputs.device)).items()}
        own += sum(size for name, size in sizes.items() if name in (last.name, last.bias_name))
        whole += sum(sizes.values())
    return own / whole if whole > 0 else math.nan


def _learned(start: TrainingStart) -> str:
    if not start.initial_loss < LEARNED:
        return ""
    return (
        f"The network has learned already: its loss is {start.initial_loss:.2g} of that of outputs 0. The forecast is "
        "that of fine-tuning from these weights."
    )


def _rate(start: TrainingStart, change: Tensor) -> str:
    share = first_step_share(start, change)
    if not share > BEYOND_LINEAR:
        return ""
    return (
        f"The first step of {start.facts.name or 'the optimizer'} at this rate changes the outputs by {share:.2g} of "
        "all that is to be learned: the rate is beyond the linear range, and features will move further than demanded."
    )


def first_step_share(start: TrainingStart, change: Tensor) -> float:
    """|J step| / |change| with every parameter moved by its rate along the sign of J' change; NaN for plain descent."""
    rates = start.network.rates
    if rates is None or not start.facts.adaptive:
        return math.nan
    f = start.network.in_metric(PLAIN_METRIC).f
    pulled = vjp(f, start.network.inputs, change)
    step = {name: start.facts.rate * g.sign() for name, g in pulled.items()}
    return float(jvp(f, start.network.inputs, step).to(WORKING).norm() / change.norm())


def _adaptive(start: TrainingStart) -> str:
    if start.network.metric.source != GRADIENT:
        return ""
    return (
        f"{start.facts.name or 'The optimizer'} divides by the size of gradients, which is taken from the gradient at "
        "the start; no stable rate is forecasted for it."
    )


def _part(start: TrainingStart) -> str:
    n = start.loss.n
    if n == start.given:
        return ""
    what = "inputs" if start.sequences is None else "sampled tokens"
    return f"{n} of {start.given} {what} were used as probes: more of them demand more."


def _left_out(start: TrainingStart) -> str:
    if not start.left_out:
        return ""
    return f"Zero on every probe at the start, so that no movement is relative to them: {', '.join(start.left_out)}."


def _batchnorm(start: TrainingStart) -> str:
    if not batchnorm_modules(start.model):
        return ""
    passed = "the inputs" if start.given <= AT_ONCE else f"{AT_ONCE} inputs"
    whose = f"of one pass over {passed}" if start.estimated else "that the model holds"
    return f"BatchNorm was in evaluation mode, with the statistics {whose}."
