"""All that a monitor does before the first step: the folder, the start, and the first look at the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.copying import deep_copy
from geomfeat.models.weights.checkpoints import load_weights
from geomfeat.monitoring.folder import MonitorFolder, settings_of
from geomfeat.monitoring.measurement import Measured, Measurement, weight_change
from geomfeat.monitoring.options import MonitorOptions
from geomfeat.monitoring.quiet import bare, weights_now
from geomfeat.monitoring.row import Event
from geomfeat.monitoring.rows_file import ROWS, read
from geomfeat.monitoring.spread_training import SpreadTraining
from geomfeat.monitoring.start import MonitorStart, monitor_start
from geomfeat.registry import Measure, get
from geomfeat.storage.owned_files import as_path
from geomfeat.tangent.optimizer_rates import optimizer_rates

SCOPES = ("layer", "pair")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A monitor's own: the network, its folder, its start, and the measurement of it.

    Attributes:
        model: what is measured: the network that is `trained`, without wrappers, or a whole copy of it.
        baseline: the numbers before training; None where the folder has them. events: known from earlier sessions.
    """

    model: nn.Module
    trained: nn.Module
    folder: MonitorFolder
    start: MonitorStart
    measurement: Measurement
    baseline: Measured | None
    session: int
    optimizer: Any
    shapes: dict[str, tuple[int, ...]]
    events: tuple[Event, ...] = ()

    def require_same_network(self, model: nn.Module | None = None) -> None:
        """BadInput where `model`, if given, is another network, or the monitor's has got other parameters."""
        if model is not None and {id(p) for p in self.trained.parameters()} != {id(p) for p in model.parameters()}:
            raise BadInput(
                "the model that is trained is not the one that the monitor was given: make the monitor after the "
                "model is replaced, on a folder of its own"
            )
        now = {name: tuple(p.shape) for name, p in self.trained.named_parameters()}
        if now != self.shapes:
            other = sorted(now.items() ^ self.shapes.items())[0][0]
            raise BadInput(
                f"parameter {other!r} of the model was added, removed or has another shape since the monitor was made: "
                "make a new monitor, on a folder of its own"
            )

    def rate(self) -> float:
        """The largest learning rate of the optimizer's groups; NaN where none is known."""
        groups = getattr(self.optimizer, "param_groups", ())
        return max((float(group["lr"]) for group in groups if "lr" in group), default=math.nan)


def prepared(
    model: nn.Module,
    probes: Any,
    targets: Any,
    *,
    folder: str | Path,
    measures: Sequence[str],
    optimizer: Any,
    initial: str | Path | None,
    readout: Any,
    layers: Any,
    seed: int,
    options: MonitorOptions,
    spread: SpreadTraining | None = None,
) -> Prepared:
    """Arguments and errors as of `Monitor`; `spread` where each process holds a part of the weights."""
    trained, trainer = model, optimizer
    model, optimizer = (bare(model), optimizer) if spread is None else (bare(spread.whole), spread.optimizer)
    chosen, place = _measures(measures), MonitorFolder.open(folder)
    known = place.settings is not None
    begin, file = model, None if initial is None else as_path(initial, "initial")
    if known:
        begin = place.initial_model(deep_copy(model))
        file = place.initial if file is not None or place.is_streamed else None
    elif file is not None:
        begin = load_weights(deep_copy(model), file)
    start = monitor_start(
        begin, probes, targets, optimizer=None if optimizer is None else optimizer_rates(optimizer, model),
        layers=layers, readout=readout, seed=seed, options=options, file=file,
    )  # fmt: skip
    measurement = Measurement(
        start, kernel=options.kernel, projections=options.projections, measures=chosen, optimizer=optimizer
    )
    settings = settings_of(
        model, start.inputs, start.layers, tuple(m.name for m in chosen), measurement.kernel,
        None if file is None or known else str(file.resolve()),
    )  # fmt: skip
    events: list[Event] = []
    if known:
        place.require_same(settings)
        with start.weights.opened() as f:
            place.require_resumed(weight_change(f, weights_now(f, model)))
        events = read(place.path / ROWS)[1] if place.rows else []
    else:
        place.begin(begin, settings)
    baseline = None if place.rows else measurement(begin)
    shapes = {name: tuple(p.shape) for name, p in trained.named_parameters()}
    return Prepared(model, trained, place, start, measurement, baseline, place.session, trainer, shapes, tuple(events))


def _measures(names: Sequence[str]) -> list[Measure]:
    if isinstance(names, str):
        raise BadInput(f"measures={names!r}: give a list of names")
    found = [get(name) for name in names]
    other = next((m for m in found if m.scope not in SCOPES), None)
    if other is not None:
        raise BadInput(
            f"measure {other.name!r} is of scope {other.scope!r}; a monitor takes those of scope "
            f"{' or '.join(SCOPES)}: give checkpoints to geomfeat.analyze for the others"
        )
    return found
