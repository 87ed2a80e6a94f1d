"""Follow a training while it runs: where the network is between lazy and rich, by layer, at every few steps."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor, nn

from geomfeat.activations.layer_selection import Patterns
from geomfeat.distributed import is_first
from geomfeat.errors import BadInput, GeomfeatError, WriteFailed, require_kind
from geomfeat.memory import is_out_of_memory
from geomfeat.models.functional import Readout
from geomfeat.monitoring.budget import Budget
from geomfeat.monitoring.distributed import is_sharded
from geomfeat.monitoring.events import new_events
from geomfeat.monitoring.folder import TABLE
from geomfeat.monitoring.measurement import Measured
from geomfeat.monitoring.options import MonitorOptions
from geomfeat.monitoring.preparation import Prepared, prepared
from geomfeat.monitoring.quiet import undisturbed
from geomfeat.monitoring.result import Monitored, events_in_force, in_force, monitored
from geomfeat.monitoring.row import Event, Row
from geomfeat.monitoring.spread_training import SpreadTraining
from geomfeat.numerics import resolve_device
from geomfeat.storage.atomic import write_parquet
from geomfeat.storage.owned_files import replace_file

logger = logging.getLogger(__name__)
EVERY = 10
Loss = float | Tensor | None


class Monitor:
    """Measures a network while it is trained, and changes nothing of the training.

    Give it the network before the first step, and call `step` after every step of the optimizer. Measurements take at
    most `options.max_share` of the training time: `every` grows until they do not take more.

    Args:
        model: the network that is trained, or its wrapper (DataParallel, torch.compile, accelerate).
        probes: inputs on which it is measured, best a few dozen training samples; in the forms of `locate`.
        targets: of the probes: (n,) classes, or (n,) or (n, C) values. They give the loss of the probes, and labels to
            measures that need them.
        folder: where rows and initial weights are written. One that holds the same training's goes on, as after a
            restart from a checkpoint: nothing is removed, and what is done again takes the place of what was.
        every: steps between measurements.
        measures: names of registered measures of layers (`geomfeat.list_measures()`), of scope "layer" or "pair" (of
            a layer at the start and now).
        optimizer: what trains: demand is then measured in its coordinates, as in `locate`, and rows have its rate.
        initial: a .safetensors file with the weights before training; they are then read when they are needed, and
            not held. Default: a copy in memory, and in the folder.
        readout, layers, seed: as in `locate`. options: see `MonitorOptions`.

    With several processes the first one measures; on the others nothing happens. Where each holds a part of the weights
    (FSDP), all must make the monitor and call `step` and `close`: the first one gathers a whole copy while it measures.

    Raises BadInput for probes, targets, layers or measures that cannot be used, and for weights that are spread over
    processes in another way; OutputExists for the folder of another training.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    >>> rule = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> with Monitor(net, x, x[:, :1], folder=tempfile.mkdtemp()) as monitor:
    ...     for step in range(1, 31):
    ...         loss = (net(x) - x[:, :1]).square().mean()
    ...         rule.zero_grad()
    ...         loss.backward()
    ...         rule.step()
    ...         row = monitor.step(step, loss)
    >>> [int(step) for step in monitor.result().network["step"]][0], bool(monitor.rows[-1].get("richness") < 0.5)
    (0, True)
    """

    def __init__(
        self,
        model: nn.Module,
        probes: Any,
        targets: Any = None,
        *,
        folder: str | Path,
        every: int = EVERY,
        measures: Sequence[str] = (),
        optimizer: Any = None,
        initial: str | Path | None = None,
        readout: Readout | str | None = None,
        layers: Patterns = "*",
        seed: int = 0,
        options: MonitorOptions = MonitorOptions(),
    ) -> None:
        require_kind(options, MonitorOptions, "options")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise BadInput(f"every={every!r} must be a whole number of steps, at least 1")
        self.options, self._given = options, every
        self.rows: list[Row] = []
        self.events: list[Event] = []
        self._prepared: Prepared | None = None
        self._budget = Budget(every, options.max_share)
        self._step: int | None = None
        self._loss: Loss = None
        self._worst: Loss = None
        self._closed = False
        optimizer = getattr(optimizer, "optimizer", optimizer)
        self._spread = SpreadTraining(model, optimizer) if is_sharded(model) else None
        with self._all_begin():
            if is_first():
                with undisturbed(resolve_device(None, next(model.parameters(), None)), seed):
                    self._prepared = prepared(
                        model, probes, targets, folder=folder, measures=measures, optimizer=optimizer, initial=initial,
                        readout=readout, layers=layers, seed=seed, options=options, spread=self._spread,
                    )  # fmt: skip
        if self._prepared is not None:
            self.rows, self.events = list(self._prepared.folder.rows), list(self._prepared.events)
            for note in self.notes:
                logger.warning("%s", note)

    @property
    def active(self) -> bool:
        """Whether this process measures."""
        return self._prepared is not None

    @property
    def every(self) -> int:
        """Steps between measurements, as they are now."""
        return self._budget.every

    @property
    def share(self) -> float:
        """Of the training time that measuring took so far; NaN before the second call of `step`."""
        return self._budget.share

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits the numbers."""
        return () if self._prepared is None else self._prepared.start.notes

    @property
    def table(self) -> pd.DataFrame:
        """The table of `Monitored`."""
        return self.result().table

    def result(self) -> Monitored:
        """What was recorded so far, in this and earlier sessions."""
        name = "" if self._prepared is None else self._prepared.folder.path.name
        return monitored(self.rows, self.events, name, self.notes)

    def step(self, step: int, loss: Loss = None, *, model: nn.Module | None = None) -> Row | None:
        """To be called after every step of the optimizer; returns the row if the step was measured.

        Args:
            step: its number, ascending. loss: of the training, a number or a tensor of one.
            model: the network that is trained, for a check that it is still the one that the monitor was given.

        Raises BadInput for a step that is not after the one before, after `close`, and, where it is measured, for a
        network that was replaced, or whose parameters were.
        """
        if self._prepared is None:
            if self._spread is not None:
                self._check(step)
                self._step = step
                self._spread.take_part(step)
            return None
        self._budget.enter()
        self._check(step)
        fresh = self._step is None
        self._step, self._loss = step, _number(loss)
        self._worst = _larger(self._worst, self._loss)
        if fresh:
            self._begin(step)
        if not self._due(step):
            return None
        before = self.every
        with self._measuring(step):
            self._prepared.require_same_network(model)
            row = self._measure(step)
        if self.every != before:
            self._say(f"step {step}: measured every {self.every} steps from here, so as to take at most "
                      f"{100 * (self.options.max_share or 1):g} % of the training time")  # fmt: skip
        return row

    def close(self) -> None:
        """Measure the last step, if it was not, and write the table; may be called again."""
        if self._prepared is None or self._closed:
            if self._spread is not None and not self._closed and self._step is not None:
                self._spread.take_part(self._step, last=True)
            self._closed = True
            return
        self._budget.enter()
        if self._step is not None and self.rows[-1].step != self._step:
            with self._measuring(self._step):
                self._measure(self._step)
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
        elif self._prepared is not None and not self._closed:
            self._finish()

    @contextlib.contextmanager
    def _all_begin(self) -> Iterator[None]:
        """Where processes gather together, none begins if the first one cannot: the others would wait for it."""
        problem: BaseException | None = None
        try:
            yield
        except BaseException as error:
            problem = error
            raise
        finally:
            if self._spread is not None:
                self._spread.begun(problem)

    def _due(self, step: int) -> bool:
        if self._spread is not None:
            return self._spread.agreed(step, self._budget)
        known = isinstance(self._loss, float) and not math.isfinite(self._loss)
        first_failure = known and not (self.rows and not math.isfinite(self.rows[-1].get("loss")))
        return self._budget.due(step) or bool(first_failure and self.rows)

    def _check(self, step: int) -> None:
        if self._closed:
            raise BadInput(f"step={step}: the monitor is closed; open another one on the same folder")
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise BadInput(f"step={step!r} must be a whole number, at least 0")
        if self._step is not None and step <= self._step:
            raise BadInput(f"step={step} is not after the one before, {self._step}: steps must ascend")

    def _begin(self, step: int) -> None:
        """The row of the initial weights, at the step before the first; a resumed training has it already."""
        assert self._prepared is not None
        if self._prepared.baseline is not None:
            self._keep(self._row(step - 1, self._prepared.baseline, {}, 0.0))

    @contextlib.contextmanager
    def _measuring(self, step: int) -> Iterator[None]:
        """Time counts as measuring, and the whole network is here. All that may fail belongs inside: before the
        weights are gathered the other processes would wait in vain."""
        gathered = contextlib.nullcontext() if self._spread is None else self._spread.all_here(step)
        with self._budget.measuring(step), gathered:
            yield

    def _measure(self, step: int) -> Row:
        prepared = self._prepared
        assert prepared is not None
        numbers = {"loss": _float(self._loss), "worst_loss": _float(self._worst)} if self._loss is not None else {}
        numbers |= {"rate": rate} if math.isfinite(rate := prepared.rate()) else {}
        begin = self._budget.now()
        try:
            found = prepared.measurement(prepared.model)
        except (GeomfeatError, MemoryError, RuntimeError) as error:
            if not isinstance(error, GeomfeatError) and not is_out_of_memory(error):
                raise
            # A training goes on without a number rather than stop for want of it.
            found = Measured({}, {}, note=f"not measured: {str(error).partition(chr(10))[0]}")
        row = self._row(step, found, numbers, self._budget.now() - begin)
        self._keep(row)
        self._worst = None
        return row

    def _row(self, step: int, found: Measured, numbers: dict[str, float], seconds: float) -> Row:
        assert self._prepared is not None
        return Row(
            step, self._prepared.session, {**numbers, **found.network}, found.layers, found.regime, seconds,
            self._budget.trained, found.note,
        )  # fmt: skip

    def _keep(self, row: Row) -> None:
        """Write a row, and what it shows."""
        assert self._prepared is not None
        self.rows.append(row)
        rows = in_force(self.rows)
        events = new_events(rows, events_in_force(rows, self.events))
        self.events += events
        for record in (row, *events):
            with self._going_on():
                self._prepared.folder.add(record)
        self._say(row.line())
        for event in events:
            logger.warning("step %d: %s", event.step, event.text)
            self._say(f"step {event.step}: {event.text}", logged=False)
        for sink in self.options.sinks:
            sink.write(row.step, row.numbers())
            for event in events:
                sink.event(event.step, event.text)

    def _finish(self) -> None:
        assert self._prepared is not None
        self._closed = True
        path = self._prepared.folder.path / TABLE
        with self._going_on():
            replace_file(path, lambda draft: write_parquet(draft, self.table))
        for sink in self.options.sinks:
            sink.close()

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """A full disk is said, and costs rows in the folder only: the training goes on."""
        try:
            yield
        except WriteFailed as error:
            logger.error("%s", error)

    def _say(self, line: str, *, logged: bool = True) -> None:
        if self.options.report is not None:
            self.options.report(line)
        elif logged:
            logger.info("%s", line)


def _number(loss: Loss) -> Loss:
    """A loss without its gradient; a tensor on an accelerator stays there, so that nothing waits for it."""
    if loss is None:
        return None
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            raise BadInput(f"loss is a tensor of shape {tuple(loss.shape)}: give one number, such as its mean")
        value = loss.detach().reshape(())
        return float(value) if value.device.type == "cpu" else value.clone()
    try:
        return float(loss)
    except (TypeError, ValueError) as cause:
        raise BadInput(f"loss is a {type(loss).__name__}: give a number or a tensor of one") from cause


def _larger(a: Loss, b: Loss) -> Loss:
    """The larger of two; NaN where one is."""
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        like = a if isinstance(a, Tensor) else torch.as_tensor(b)
        return torch.maximum(torch.as_tensor(a).to(like), torch.as_tensor(b).to(like))
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def _float(loss: Loss) -> float:
    return math.nan if loss is None else float(loss)
