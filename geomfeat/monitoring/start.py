"""What every measurement is compared with: the network before training on the probes, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.data.batch_streams import reread
from geomfeat.errors import BadInput
from geomfeat.labels import as_goal, as_labels
from geomfeat.location.initial_states import observe, with_size
from geomfeat.location.padding import Padding
from geomfeat.models.functional import Functional, Readout, unwrapped
from geomfeat.models.nested_inputs import as_inputs, n_samples
from geomfeat.models.readouts.prefixes import repeated, sampled
from geomfeat.models.readouts.reading import reading_of
from geomfeat.models.reinitialize import batchnorm_modules, never_estimated
from geomfeat.monitoring.initial_weights import Held, InitialWeights, Streamed
from geomfeat.monitoring.options import MonitorOptions
from geomfeat.monitoring.quiet import undisturbed
from geomfeat.monitoring.unit_checks import dead_shares, spreads
from geomfeat.network import Network
from geomfeat.numerics import WORKING, require_finite
from geomfeat.precision import roundings
from geomfeat.regimes.training.class_targets import as_classes
from geomfeat.regimes.training.objective import loss_of, prepared_targets

# Default number of probes: as many as give this many outputs, between these limits.
ROWS, MOST, FEWEST = 320, 64, 16
# Outputs above which demand goes through few directions of the change, and the network is computed in float32: that
# costs .0003 decades of R.
MANY_OUTPUTS = 16


@dataclass(frozen=True, eq=False)
class Goal:
    """A loss on samples: inputs None for the probes."""

    loss: str
    targets: Tensor
    inputs: Any = None

    def of(self, outputs: Tensor) -> float:
        """The loss of outputs (n, C), by the conventions of `loss_of`."""
        return float(loss_of(outputs.to(WORKING), self.targets.to(outputs.device), self.loss))


@dataclass(frozen=True, eq=False)
class MonitorStart:
    """The network before training, and how it is measured.

    Attributes:
        weights: its weights. inputs: the probes. layers: the hidden layers. rows: which of the given inputs they are.
        outputs, features: of the probes at the start, (n, C) and layer -> (n, d). dead, spread: see `unit_checks`.
        labels: classes of the probes, or None. goals: "probe_loss" and "held_out_loss" -> loss.
        padding: positions that are no features. needed: whether a layer was asked for by name.
        notes: what limits the numbers, in sentences.
    """

    weights: InitialWeights
    inputs: Any
    layers: tuple[str, ...]
    needed: Any
    rows: Tensor
    outputs: Tensor
    features: Mapping[str, Tensor]
    dead: Mapping[str, float]
    spread: Mapping[str, float]
    labels: Tensor | None
    goals: Mapping[str, Goal]
    padding: Padding | None
    readout: Readout | None
    seed: int
    notes: tuple[str, ...] = ()


def monitor_start(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    optimizer: Any,
    layers: Any,
    readout: Readout | str | None,
    seed: int,
    options: MonitorOptions,
    file: Path | None = None,
) -> MonitorStart:
    """Look at the network at its initial weights.

    Args:
        model: with these weights; it is copied. file: where they are read from, if they are not to be held.

    Raises BadInput for probes, targets, layers or parameters that cannot be used.
    """
    _require_trainable(model, optimizer, options)
    reading = reading_of(model, readout, options.loss)
    inputs, targets = reread(model, inputs, targets, why="the monitor")
    reading, inputs, tokens = sampled(model, reading, inputs, seed)
    targets = repeated(targets, tokens)
    network = Network.prepare(
        model, inputs, layers=layers, params=options.params, optimizer=optimizer, readout=reading
    )  # fmt: skip
    n_outputs = _n_outputs(network)
    if n_outputs > MANY_OUTPUTS and next(model.parameters()).dtype != WORKING:
        network = replace(network, dtype=torch.float32)
    with undisturbed(network.f.device, seed):
        observed = observe(network, None, n_probes=_count(network.n, n_outputs, options), seed=seed, varied=False)
    f = observed.network.f
    outputs = require_finite(observed.outputs, "the network's outputs on the probes").to(f.device, WORKING)
    features, empty = with_size(observed.features, observed)
    kept = observed.layers if not empty else tuple(features)
    probes = f.inputs(observed.network.inputs)
    goals = _goals(targets, observed.rows, network.n, outputs, options, f)
    with undisturbed(f.device, seed):
        dead = dead_shares(f, probes, kept, seed)
    notes = [*_random(f, probes, outputs, seed), *_left_out(empty), *_batchnorm(model)]
    weights: InitialWeights = Held(f) if file is None else Streamed(f, file)
    return MonitorStart(
        weights, probes, kept, observed.network.layers.must, observed.rows, outputs, features, dead,
        spreads(features), _classes(targets, observed.rows), goals, observed.padding, observed.network.readout, seed,
        tuple(notes),
    )  # fmt: skip


def _require_trainable(model: nn.Module, optimizer: Any, options: MonitorOptions) -> None:
    if optimizer is None and options.params is None and not any(p.requires_grad for p in model.parameters()):
        raise BadInput(
            "every parameter of the model is frozen (requires_grad is False), so nothing will move: unfreeze what is "
            "trained before the monitor is made, or name it in options.params"
        )


def _n_outputs(network: Network) -> int:
    f = replace(network, dtype=torch.float32).f
    with torch.no_grad():
        return f(f.theta, f.inputs(network.take(slice(0, 2)).inputs)).shape[1]


def _count(n: int, n_outputs: int, options: MonitorOptions) -> int:
    return options.n_probes or min(n, MOST, max(FEWEST, ROWS // n_outputs))


def _goals(
    targets: Any, rows: Tensor, n: int, outputs: Tensor, options: MonitorOptions, f: Functional
) -> dict[str, Goal]:
    found = {}
    if targets is not None:
        found["probe_loss"] = _goal(_of_length(targets, n, "targets")[rows], outputs, options.loss)
    if options.held_out is not None:
        inputs, held = options.held_out
        inputs = f.inputs(as_inputs(inputs))
        goal = _goal(_of_length(held, n_samples(inputs), "held_out targets"), outputs, options.loss)
        found["held_out_loss"] = replace(goal, inputs=inputs)
    return found


def _of_length(targets: Any, n: int, name: str) -> Tensor:
    goal = as_goal(targets, name)
    if goal.shape[0] != n:
        raise BadInput(f"{name} has {goal.shape[0]} entries, but there are {n} samples: give one for each")
    return goal


def _goal(targets: Tensor, outputs: Tensor, loss: str | None) -> Goal:
    if loss is None:
        by_class = targets.ndim == 1 and not targets.is_floating_point() and outputs.shape[1] > 1
        loss = "cross-entropy" if by_class else "mse"
    targets = as_classes(targets, outputs.shape[1])
    return Goal(loss, prepared_targets(targets, loss, outputs.shape[1], WORKING))


def _classes(targets: Any, rows: Tensor) -> Tensor | None:
    """Labels of the probes for measures of classes; None for values."""
    if targets is None:
        return None
    goal = as_goal(targets, "targets")
    return as_labels(goal[rows]).codes if goal.ndim == 1 and not goal.is_floating_point() else None


def _random(f: Functional, inputs: Any, outputs: Tensor, seed: int) -> list[str]:
    """A sentence where the forward pass draws random numbers although dropout is off."""
    with undisturbed(f.device, seed + 1), torch.no_grad():
        again = f(f.theta, inputs).to(outputs)
    size = float(outputs.norm())
    if float((again - outputs).norm()) <= roundings(f.dtype)[0] * size:
        return []
    return [
        f"The forward pass draws random numbers in evaluation mode too: outputs differ by "
        f"{float((again - outputs).norm()) / size:.2g} of their size between two draws. Every measurement uses the "
        "same draws."
    ]


def _left_out(empty: tuple[str, ...]) -> list[str]:
    return [f"Layers that are zero on every probe at the start are left out: {', '.join(empty[:5])}."] if empty else []


def _batchnorm(model: nn.Module) -> list[str]:
    inner = unwrapped(model)
    if not (batchnorm_modules(inner) and never_estimated(inner)):
        return []
    return [
        "The running statistics of BatchNorm are those of a network that was never trained: movement in evaluation "
        "mode includes that they become those of the data."
    ]
