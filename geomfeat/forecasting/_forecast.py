"""Forecast where a training will be between lazy and rich, from the initial weights, some samples and the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, require_kind
from geomfeat.forecasting.callable_loss import Function as LossFunction, name_of
from geomfeat.forecasting.caveats import first_step_share, flags_of
from geomfeat.forecasting.expected_place import LEVEL, demands, expected_place, linear_movement, task_at
from geomfeat.forecasting.linear_training import LinearTraining, train_linearly
from geomfeat.forecasting.momentum_steps import train_by_momentum
from geomfeat.forecasting.optimizer_run import MOST_STEPS, OptimizerRun, run_linearised
from geomfeat.forecasting.options import ForecastOptions
from geomfeat.forecasting.origin import Origin
from geomfeat.forecasting.result import Forecast
from geomfeat.forecasting.stable_rate import curvature, place_of_rate, stable_rate
from geomfeat.forecasting.start import TrainingStart, training_start
from geomfeat.forecasting.trainer_arguments import is_training_arguments, of_training_arguments
from geomfeat.location.demand import LinearisedTask
from geomfeat.models.functional import Readout
from geomfeat.numerics import WORKING
from geomfeat.tangent import jvp, vjp
from geomfeat.tangent.metric import PLAIN_METRIC

TARGET = 0.1  # relative loss, where neither a target nor a number of steps is given
# R up to which the linear training also says how far features will move: beyond, networks leave it.
LINEAR_BELOW = -0.3


def forecast(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    loss: str | LossFunction,
    target_loss: float | None = None,
    optimizer: Any = None,
    n_steps: int | None = None,
    readout: Readout | str | None = None,
    seed: int = 0,
    options: ForecastOptions = ForecastOptions(),
) -> Forecast:
    """Where training will take a network between lazy and rich, before any training.

    The linearised network is trained by gradient flow on the loss; the change of outputs that it makes demands R and
    kappa of the network as the change of a training does in `locate`. The further from the linear range that is, the
    more they are those of a change that fits all samples alike, straight along the first gradient of the loss.

    Args:
        model: with its initial weights. inputs: training samples, a few hundred: a tensor, tuple or mapping with
            samples first, or a DataLoader or Dataset in a fixed order.
        targets: (n,) classes, or (n,) or (n, C) values; None where the batches of `inputs` hold them. For a causal
            language model (n, tokens) classes of every token, see `token_samples`: tokens are then samples.
        loss: "mse" (mean over samples of the sum of squares over outputs; classes become one-hot rows minus 1/C) or
            "cross-entropy"; or a function (outputs, targets) that returns one number or one for each sample, of outputs
            (n, C) in float64 and the targets as they are given. A function needs `target_loss` or `n_steps`.
        target_loss: where training will end: share, in (0, 1), of the loss of outputs 0, as in `PlainOptions`: for
            cross-entropy over C classes of log C. Default .1, or none where `n_steps` is given.
        optimizer: what will train it: a torch optimizer on the model's parameters, its `state_dict()`, {parameter glob:
            rate}, a file of one, see `optimizer_rates`, or the TrainingArguments of transformers. Default: plain
            gradient descent of equal rates.
        n_steps: full-batch steps after which training ends if it has not got to the target; needs `optimizer`.
        readout: what the outputs (n, C) are, see `locate`.

    Raises BadInput for a loss, targets, layers or parameters that cannot be used, a target that the start has reached
    already, and outputs that are not finite.

    Source: linear response of `locate`; linearised training as in Lee et al. 2019, eq. 4.

    >>> from geomfeat.models.mlp import mlp
    >>> x = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
    >>> expected = forecast(mlp(5, (64,), 2, seed=0), x, (x[:, 0] > 0).long(), loss="cross-entropy", target_loss=0.5)
    >>> expected.low < expected.richness < expected.high
    True
    """
    require_kind(options, ForecastOptions, "options")
    assumed: tuple[str, ...] = ()
    if is_training_arguments(optimizer) and isinstance(model, nn.Module):
        optimizer, n_steps, assumed = of_training_arguments(optimizer, model, target_loss, n_steps)
    _check(target_loss, n_steps, optimizer, loss)
    start = training_start(
        model, inputs, targets, loss=loss, optimizer=optimizer, readout=readout, seed=seed, options=options
    )
    target = _target(start, target_loss, n_steps)
    run = _optimizer_run(start, optimizer, target, n_steps)
    task = task_at(start)
    training = _train(start, task, target, n_steps, run)
    product = _product(task, start)
    movement = _movement(start, training, run)
    place = expected_place(start, task, training.change, movement, seed, options.n_bootstrap)
    richness, kappa = place.demands.richness, place.demands.kernel_demand
    known = [m for name, m in movement.items() if math.isfinite(m) and place.demands.layers[name] > -math.inf]
    moves = sum(known) / len(known) if known and richness < LINEAR_BELOW else math.nan
    layers = place.layers if richness < LINEAR_BELOW else place.layers.assign(movement=math.nan)
    largest, facts = curvature(product, start.outputs, start.loss), start.facts
    stable = math.nan if facts.adaptive else stable_rate(largest, kappa, facts.momentum)
    return Forecast(
        richness=richness, low=richness - place.half, high=richness + place.half, kernel_demand=kappa,
        regime=place.regime, layers=layers, loss=start.loss.name, initial_loss=start.initial_loss,
        target_loss=math.nan if target is None else target, loss_reached=training.loss, time=training.time,
        curvature=largest, stable_rate=stable, steps=_steps(start, training, run), rate=facts.rate,
        rate_place=place_of_rate(facts.rate, stable, kappa, facts.momentum), momentum=facts.momentum,
        kernel_demand_on_target=place.demands.kernel_demand_on_target,
        kernel_intervals=place.intervals, movement=moves, excess=moves - richness, optimizer=facts.name,
        metric=start.network.metric.source, tangent=start.network.space.words,
        readout=start.network.f.words(start.network.inputs),
        flags=(*flags_of(start, training, place, target), *assumed),
        details={
            "n_probes": start.loss.n, "n_outputs": start.outputs.shape[1], "n_inputs": start.given, "level": LEVEL,
            "unreachable": training.unreachable, "n_steps": n_steps,
            "n_bootstrap": options.n_bootstrap, "seed": seed, "notes": [*start.network.f.notes, *start.notes],
            "first_step": first_step_share(start, training.change), "by_change": place.demands.words,
        },
        origin=Origin.of(
            model, inputs, targets, loss=loss, target_loss=target_loss, optimizer=optimizer, n_steps=n_steps,
            readout=readout, seed=seed, options=options,
        ),
    )  # fmt: skip


def expected_richness(
    model: nn.Module, inputs: Any, targets: Any, *, loss: str | LossFunction, target_loss: float | None, optimizer: Any,
    n_steps: int | None, readout: Readout | str | None, seed: int, options: ForecastOptions,
) -> ExpectedRichness:  # fmt: skip
    """R of `forecast` alone, with what the rates go by: without the kernel's place, intervals, movement."""
    start = training_start(
        model, inputs, targets, loss=loss, optimizer=optimizer, readout=readout, seed=seed, options=options
    )
    target = _target(start, target_loss, n_steps)
    run = None if n_steps is None else _optimizer_run(start, optimizer, target, n_steps)
    task = task_at(start)
    training = _train(start, task, target, n_steps, run)
    largest = curvature(_product(task, start), start.outputs, start.loss)
    found = demands(start, task, training.change, seed, kernels=False)
    return ExpectedRichness(found.richness, start.facts.rate, first_step_share(start, training.change), largest)


@dataclass(frozen=True)
class ExpectedRichness:
    """R, the given rate, the share of the change that an adaptive optimizer's first step makes, curvature."""

    richness: float
    rate: float
    first_step: float
    curvature: float


def _target(start: TrainingStart, target_loss: float | None, n_steps: int | None) -> float | None:
    target = TARGET if target_loss is None and n_steps is None else target_loss
    if target is not None and start.initial_loss <= target:
        raise BadInput(
            f"target_loss={target:g} is reached at the start, where the relative loss is {start.initial_loss:.3g}: "
            "nothing is left to forecast; give a lower one"
        )
    return target


def _check(target_loss: float | None, n_steps: int | None, optimizer: Any, loss: Any) -> None:
    if callable(loss) and target_loss is None and n_steps is None:
        raise BadInput(
            f"loss={name_of(loss)} is a function whose minimum is not known, so that no end of the training can be "
            "assumed: give target_loss, the share of the loss of outputs 0 at which it ends, or n_steps"
        )
    if target_loss is not None and not 0 < target_loss < 1:
        raise BadInput(
            f"target_loss={target_loss} must lie between 0 and 1: the share of the loss of outputs 0 that may be left"
        )
    if n_steps is not None and (n_steps != int(n_steps) or n_steps < 1):
        raise BadInput(f"n_steps={n_steps} must be a whole number of at least 1")
    if n_steps is not None and optimizer is None:
        raise BadInput(f"n_steps={n_steps} says nothing without a rate: give the optimizer too, or target_loss instead")


def _optimizer_run(
    start: TrainingStart, optimizer: Any, target: float | None, n_steps: int | None
) -> OptimizerRun | None:
    """Of an adaptive optimizer, where the network is not too large and the optimizer itself is there."""
    if not start.facts.adaptive or not isinstance(optimizer, torch.optim.Optimizer) or start.network.is_heavy:
        return None
    most = MOST_STEPS if n_steps is None else min(n_steps, MOST_STEPS)
    return run_linearised(
        start.model,
        optimizer,
        start.network.inputs,
        start.loss,
        readout=start.network.readout,
        target=target,
        most=most,
    )


def _product(task: LinearisedTask, start: TrainingStart) -> Any:
    if task.gram is not None:
        gram = task.gram
        return lambda v: (gram @ v.flatten()).view_as(v)
    f, inputs = start.network.f, start.network.inputs
    return lambda v: jvp(f, inputs, vjp(f, inputs, v)).to(WORKING)


def _train(
    start: TrainingStart, task: LinearisedTask, target: float | None, n_steps: int | None, run: OptimizerRun | None
) -> LinearTraining:
    longest = math.inf
    if n_steps is not None:
        longest = n_steps * start.facts.flow_rate
        if math.isnan(longest):  # of an adaptive optimizer: flow to the loss that its own steps lead to
            if run is None or (run.steps < n_steps and not run.reached):
                raise BadInput(
                    f"n_steps={n_steps} of an optimizer that divides by gradients cannot be followed here (that takes "
                    f"the optimizer itself, at most 1e6 parameters and {MOST_STEPS} steps): give target_loss instead"
                )
            longest, target = math.inf, run.loss
    kernel = task.gram if task.gram is not None else _product(task, start)
    training = None
    if start.facts.plain_momentum:
        training = train_by_momentum(
            kernel, start.outputs, start.loss, rate=start.facts.rate, momentum=start.facts.momentum, target=target,
            n_steps=n_steps,
        )  # fmt: skip
    if training is None:
        training = train_linearly(kernel, start.outputs, start.loss, target=target, longest=longest)
    if not bool(training.change.any()):
        raise BadInput("the linearised network does not change its outputs at all: no trained weight reaches them")
    return training


def _movement(start: TrainingStart, training: LinearTraining, run: OptimizerRun | None) -> dict[str, float]:
    """M by layer of the linear training: by the optimizer's own steps where they got to the end, else by the flow."""
    f, inputs = start.network.f, start.network.inputs
    if not start.facts.adaptive:
        return linear_movement(start, f, vjp(f, inputs, training.coefficients))
    if run is None or not run.reached:
        return {}
    plain = start.network.in_metric(PLAIN_METRIC).f
    step: dict[str, Tensor] = {n: s.to(plain.device, plain.dtype) for n, s in run.step.items() if n in plain.theta}
    return linear_movement(start, plain, step)


def _steps(start: TrainingStart, training: LinearTraining, run: OptimizerRun | None) -> float:
    if start.facts.adaptive:
        return float(run.steps) if run is not None and run.reached else math.nan
    return training.time / start.facts.flow_rate
