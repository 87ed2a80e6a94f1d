"""The located quantities from one set of initial weights: the true ones, or a fresh draw in their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations import hidden_weight_layers, require_samples_first, select_layers
from geomfeat.diagnostics.demand import Demand, LinearisedTask, linearised_task, solve
from geomfeat.diagnostics.movement import movement, outputs_and_features
from geomfeat.errors import BadInput
from geomfeat.models.fresh import (
    Factory,
    batchnorm_modules,
    fresh,
    never_estimated,
    resetting,
    with_batchnorm_statistics,
)
from geomfeat.models.functional import Readout, as_inputs, functional, n_samples, take
from geomfeat.numerics import WORKING, as_tensor, stream

# Probes: this many output rows n * C, within these numbers of samples.
ROWS, MOST, FEWEST = 1280, 256, 32
# A network of more parameters is differentiated in float32: float64 convolutions cost ten times as much. The
# algebra on its kernel stays in float64.
HEAVY = 1_000_000


@dataclass(frozen=True, eq=False)
class Observed:
    """The trained network on the probes: what every start is compared with.

    Attributes:
        model: the trained network. probes: inputs of the n probes. labels: theirs, or None. layers: hidden layers.
        outputs: (n, C). features: layer -> (n, d). rows: which of the given inputs the probes are.
    """

    model: nn.Module
    probes: Any
    labels: Tensor | None
    layers: tuple[str, ...]
    outputs: Tensor
    features: dict[str, Tensor]
    rows: Tensor
    readout: Readout | None
    device: Any


@dataclass(frozen=True, eq=False)
class Start:
    """One set of initial weights: its model, linear response to the change that training made, and movement."""

    model: nn.Module
    task: LinearisedTask
    demand: Demand
    movement: dict[str, float]
    outputs: Tensor
    features: dict[str, Tensor]
    batchnorm_estimated: bool


def is_heavy(model: nn.Module) -> bool:
    """Whether the network has more than a million parameters."""
    return sum(p.numel() for p in model.parameters()) > HEAVY


def precision_of(model: nn.Module) -> torch.dtype:
    """float64, or float32 for a heavy network that is not in float64 itself."""
    return torch.float32 if is_heavy(model) and next(model.parameters()).dtype != WORKING else WORKING


def observe(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    *,
    layers: Any = "*",
    n_probes: int | None = None,
    seed: int = 0,
    readout: Readout | None = None,
    device: Any = None,
) -> Observed:
    """The trained network on a seeded choice of the inputs. Raises BadInput for no hidden layer, or unfit labels."""
    inputs = as_inputs(inputs)
    n = n_samples(inputs)
    if n < 4:
        raise BadInput(f"inputs hold {n} samples: a location needs at least 4 probes, better 50")
    if labels is not None:
        labels = as_tensor(labels, "labels")
        if labels.shape[0] != n:
            raise BadInput(f"labels has {labels.shape[0]} entries, but inputs hold {n} samples")
    names = (
        hidden_weight_layers(model, inputs, readout=readout, device=device)
        if isinstance(layers, str) and layers == "*"
        else select_layers(model, layers)
    )
    if not names:
        raise BadInput("the model has no hidden layer with weights, so it has no features that could move")
    require_samples_first(model, inputs, device=device)
    f = functional(model, dtype=precision_of(model), device=device, readout=readout)
    if n_probes is None:
        with torch.no_grad():
            c = f(f.theta, f.inputs(take(inputs, slice(0, 2)))).shape[1]
        n_probes = min(n, MOST, max(FEWEST, ROWS // c))
    if not 4 <= n_probes <= n:
        raise BadInput(f"n_probes={n_probes} must lie between 4 and the number of inputs, {n}")
    rows = torch.randperm(n, generator=stream(seed, "locate", "probes"))[:n_probes].sort().values
    probes = take(inputs, rows)
    outputs, features = outputs_and_features(f, probes, names)
    distinct = len(torch.unique(outputs, dim=0))
    if distinct < 4:
        raise BadInput(
            f"the model gives only {distinct} different outputs on {n_probes} probes: give inputs that differ"
        )
    return Observed(
        model, probes, None if labels is None else labels[rows], tuple(names), outputs, features, rows, readout, device
    )


def initial_models(
    trained: nn.Module, initial: nn.Module | None, factory: Factory | None, count: int, seed: int
) -> Iterator[nn.Module]:
    """The given initial model, or `count` fresh ones. BadInput when the factory gives the same weights twice."""
    if initial is not None:
        yield initial
        return
    make = resetting(trained) if factory is None else factory
    first: nn.Module | None = None
    for number in range(count):
        model = fresh(make, seed, number)
        if first is not None and all(
            torch.equal(a, b) for a, b in zip(first.parameters(), model.parameters(), strict=True)
        ):
            raise BadInput(
                "factory= returns the same weights on every call: it must draw fresh ones (without a fixed seed or "
                "pretrained weights), else give the initial weights as initial="
            )
        first = first or model
        yield model


def start_from(
    model: nn.Module,
    observed: Observed,
    *,
    share_left: float = 0.01,
    method: str = "auto",
    projections: int | None = None,
    seed: int = 0,
) -> Start:
    """Demand and movement from one set of initial weights. BadInput when the trained outputs are the initial ones."""
    estimated = bool(batchnorm_modules(model)) and never_estimated(model) and not never_estimated(observed.model)
    if estimated:
        model = with_batchnorm_statistics(model, observed.probes)
    f = functional(model, dtype=precision_of(model), device=observed.device, readout=observed.readout)
    outputs, features = outputs_and_features(f, observed.probes, observed.layers)
    if outputs.shape != observed.outputs.shape or features.keys() != observed.features.keys():
        raise BadInput(
            f"initial and trained model differ in architecture: outputs {tuple(outputs.shape)} and "
            f"{tuple(observed.outputs.shape)}, layers {list(features)[:5]} and {list(observed.features)[:5]}"
        )
    change = observed.outputs - outputs
    if not float(change.norm()) > 1e-12 * float(outputs.norm()):
        raise BadInput(
            "trained and initial model give the same outputs on the probes: nothing was learned, so there is nothing "
            "to locate (was the same file given twice?)"
        )
    task = linearised_task(
        f, observed.probes, change, observed.layers,
        share_left=share_left, method=method, projections=projections, seed=seed,
    )  # fmt: skip
    return Start(model, task, solve(task), movement(features, observed.features), outputs, features, estimated)
