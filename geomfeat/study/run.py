"""Run a study: snapshots x layers x measures to a tidy table, with the location and the arrays behind the pictures."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from geomfeat._version import __version__
from geomfeat.activations import ExtractOptions
from geomfeat.activations.layer_selection import Patterns
from geomfeat.data.batch_streams import reread
from geomfeat.errors import BadInput, near, require_kind
from geomfeat.labels import classes_in
from geomfeat.location.options import LocateOptions
from geomfeat.location.result import Location
from geomfeat.models.nested_inputs import Inputs
from geomfeat.models.readouts.prefixes import repeated, sampled, together
from geomfeat.study.figure_arrays import cka_matrices, spectrum, umap_plane, umap_rows
from geomfeat.study.location_rows import (
    accuracy_of,
    check_ladder,
    check_located,
    locate_subject,
    located_with,
    location_rows,
    what_is_read,
)
from geomfeat.study.measure_rows import guarded
from geomfeat.study.measure_selection import MeasurePlan, make_plan
from geomfeat.study.options import StudyOptions
from geomfeat.study.part_cache import Parts, code_of, fingerprint
from geomfeat.study.result import Study
from geomfeat.study.snapshots import INITIAL, TRAINED, Look, Subject, make_subject, network_of
from geomfeat.study.table import Row, are_rows, checked_conditions, failed_rows, table_of
from geomfeat.study.tasks import Features, Task, tasks_of, work_through
from geomfeat.study.timeline import Course, course_of
from geomfeat.types import Representation, Snapshot

# Arrays speak of "initial" and "trained".
WORDS = {INITIAL: "initial", TRAINED: "trained"}


def analyze(
    model: nn.Module | Snapshot,
    inputs: Inputs,
    labels: Any = None,
    *,
    initial: nn.Module | Snapshot | None = None,
    checkpoints: Mapping[Any, Any] | None = None,
    layers: Patterns = "*",
    measures: Sequence[str] | str | None = None,
    groups: Any = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
    extraction: ExtractOptions = ExtractOptions(),
    location: bool | LocateOptions | Mapping[str, Any] = True,
    options: StudyOptions = StudyOptions(),
) -> Study:
    """Measure what a network has learned, layer by layer, and locate it between lazy and rich.

    Every measure on every layer, before and after training, and its location.

    Args:
        model, initial: the network after and before training, or Snapshots of it (their conditions become columns;
            with its step, `Snapshot(model, at=1000)`, the trained network is the last of a series over time). Without
            initial weights the location draws fresh ones; what compares with the start is left out.
        checkpoints: step -> Snapshot, module or state; adds rows with `at` the step, and "init-><step>" for changes;
            with three or more known steps (initial is 0) also the verdict over time, `time_regime`.
        inputs: n samples, a few hundred, best of the training set: a tensor, a tuple or a mapping, samples first; or a
            DataLoader or Dataset, see `extract`, which is read again for every pass, in a fixed order.
        labels: (n,) classes, or the values (n,) or (n, C) of a regression, for which measures that need classes fail;
            default those of the batches, if any.
        layers: "*" the hidden layers with weights; else patterns, see `select_layers`.
        measures: names; default every measure that can run on these inputs (`settings["left_out"]` lists the others).
        groups: (n,) which samples belong together (views of one object), or None. Samples are then held out by whole
            groups, and errors over samples become errors over groups.
        extraction: how features become (n, d), batch size and readout, see `ExtractOptions`. Layers of more than 4096
            features are projected to 2048 for geometry, unless `project` says otherwise.
        location: False leaves it out; `LocateOptions`, or a mapping of some of them, say how it is measured.
        options: name, conditions, data for the accuracy, UMAP, resuming, factory, ladder, see `StudyOptions`.

    Returns Study: `.table` (one row per number), `.location`, `.arrays`, `.to_html(path)`, `.save(dir)`. In the table
    `at` is "init", "trained" or a step; for comparisons "init->trained" or "init-><step>". A measure that fails gives
    rows with ok False and a note. Results depend on neither the order nor the choice of layers and measures.

    Raises BadInput (or a subclass) before any work and before anything is written.

    >>> from geomfeat.models import build
    >>> start, end = build("mlp", seed=0), build("mlp", seed=0)
    >>> with torch.no_grad(): _ = end[-1].weight.mul_(2)
    >>> found = analyze(end, torch.randn(30, 64), initial=start, measures="stable_rank", progress=False,
    ...                 options=StudyOptions(umap=False))
    >>> found.location.tier, sorted(set(found.table["at"]))
    ('initial', ['init', 'init->trained', 'trained'])
    """
    require_kind(options, StudyOptions, "options")
    where = located_with(location)
    look = Look.of(
        extraction, seed=seed, device=device, model=network_of(model), loss=None if where is None else where.loss
    )
    inputs, labels = reread(model, inputs, labels, why="analyze", batch_size=extraction.batch_size)
    readout, inputs, rows = sampled(network_of(model), look.readout, inputs, seed)
    look, labels = look.reading_by(readout), repeated(labels, rows)
    groups = together(groups, rows)
    evaluate = _samples_of(options.evaluate, model, extraction.batch_size)
    columns = checked_conditions({**getattr(model, "conditions", {}), **(options.conditions or {})})
    course = course_of(model, initial, checkpoints, evaluate, None if where is None else where.loss, columns)
    have = _had(labels, initial, course)
    make_plan(measures, have | {"outputs"})
    check_ladder(options.ladder, labels)
    subject = make_subject(
        model, inputs, labels, groups=groups, initial=initial, checkpoints=checkpoints, layers=layers,
        look=look, params=options.params, optimizer=options.optimizer,
    )  # fmt: skip
    _check_asked(subject, options.umap, where)
    plan = make_plan(measures, have | ({"outputs"} if subject.has_outputs else set()))
    run = _Run(subject, plan, Parts(options.resume), Features(subject, progress), progress, course)
    rows = run.measured()
    found: Location | None = None
    if where is not None:
        found, located = run.located(options, where)
        rows += located
    arrays, failures = run.pictures(rows, options.umap)
    accuracy, read_from = accuracy_of(subject, evaluate, course.loss)
    reduce = look.options.reduce
    settings = {
        "version": __version__, **_software(), "layers": list(subject.layers), "measures": plan.names,
        "left_out": plan.left_out, "n": subject.n, "labels": labels is not None, "classes": list(subject.classes),
        "initial": initial is not None,
        "checkpoints": [at for at in subject.snapshots if at not in WORDS], "seed": seed, "groups": subject.n_groups,
        "device": str(device or "as the model"), "reduce": reduce if isinstance(reduce, str) else reduce.__name__,
        "projected": {layer: subject.width for layer in subject.layers if layer in subject.projected},
        "conditions": columns, "weights": run.hashes, "data": run.data,
        "accuracy": accuracy, "accuracy_read_from": read_from, "readout": what_is_read(subject),
    }  # fmt: skip
    table = table_of([*rows, *failures], run=options.name, seed=seed, conditions=columns, version=__version__)
    return Study(options.name, table, found, arrays, settings)


def _had(labels: Any, initial: Any, course: Course) -> set[str]:
    """What measures may need and there is, as `make_plan` names it."""
    values = labels is not None and classes_in(labels) is None
    there = {
        "labels": labels is not None and not values, "values": values, "init": initial is not None,
        "course": course.is_long_enough,
    }  # fmt: skip
    return {"gradients"} | {what for what, given in there.items() if given}


def _samples_of(evaluate: Mapping[str, Any] | None, trained: Any, batch_size: int) -> dict[str, tuple[Any, Any]] | None:
    """Part -> (inputs, labels), whatever holds them."""
    if evaluate is None:
        return None
    if not isinstance(evaluate, Mapping):
        raise BadInput(
            f"evaluate is a {type(evaluate).__name__}: give {{'test': (inputs, labels)}}, or a DataLoader in it"
        )
    found = {}
    for name, part in evaluate.items():
        pair = part if isinstance(part, tuple | list) else (part, None)
        if len(pair) != 2:
            raise BadInput(
                f"evaluate[{name!r}] has {len(pair)} entries: give (inputs, labels), or a DataLoader of both"
            )
        found[name] = reread(trained, *pair, why=f"evaluate[{name!r}]", batch_size=batch_size)
    return found


def _check_asked(subject: Subject, umap: bool | str, where: LocateOptions | None) -> None:
    if isinstance(umap, str) and umap not in subject.layers:
        raise BadInput(f"umap={umap!r} is not one of the layers; near: {near(umap, subject.layers)}")
    if where is not None:
        check_located(subject, where)


class _Run:
    """The work of one study, with finished parts saved in `parts`."""

    def __init__(
        self, subject: Subject, plan: MeasurePlan, parts: Parts, features: Features, progress: bool, course: Course
    ) -> None:
        self.course = course
        self.subject, self.plan, self.seed, self.parts = subject, plan, subject.look.seed, parts
        self.features, self.progress = features, progress
        self.drawn: dict[tuple[str, str, str], dict[str, np.ndarray]] = {}
        self.failures: dict[tuple[str, str, str], list[Row]] = {}
        look = subject.look
        self.hashes = {at: fingerprint(s.model) for at, s in subject.snapshots.items()}
        self._code = {at: fingerprint(code_of(s.model)) for at, s in subject.snapshots.items()}
        beside = (subject.goal,) if subject.groups is None else (subject.goal, subject.groups)
        self.data = fingerprint(subject.inputs, *beside)
        device = torch.device(look.device).type if look.device is not None else "own"
        how = _named(look.options.reduce), look.options.project, _named(look.readout)
        self._common = (__version__, self.seed, self.data, *how, device)

    def key(self, *address: Any, moments: Sequence[str]) -> str:
        """The address of a finished part: all that decides its content."""
        return fingerprint(self._common, address, [(at, self.hashes[at], self._code[at]) for at in moments])

    def measured(self) -> list[Row]:
        """Rows of all measures, finished ones from the parts."""
        tasks = list(tasks_of(self.subject, self.plan, self.features, self.seed, self.course))
        keys = {task: self.key(*task.address, moments=task.moments) for task in tasks}
        rows = {task: found for task in tasks if are_rows(found := self.parts.get(keys[task]))}
        todo = [task for task in tasks if task not in rows]
        if todo:
            self.extract()
        last = {task.place: task for task in todo} | {task.place: task for task in todo if task.beside}
        lock = RLock()  # of the bar, which layers side by side share
        with tqdm(total=len(tasks), initial=len(rows), desc="measure", disable=not self.progress) as bar:

            def do(task: Task) -> None:
                with lock:
                    bar.set_postfix_str(task.label, refresh=False)
                rows[task] = found = task.rows()
                if all(row["ok"] for row in found):  # what failed is tried again: memory may be free then
                    self.parts.put(keys[task], found)
                if task.place is not None and task is last[task.place] and task.place[0] in WORDS:
                    self._drawn("spectrum", *task.place, spectrum_arrays)  # while what measures share is kept
                with lock:
                    bar.update()

            work_through(todo, self.features, do)
        refused = [
            r for m, why in self.plan.refused for r in failed_rows(m.quantities, why, at=TRAINED, measure=m.name)
        ]
        return [*chain.from_iterable(rows[task] for task in tasks), *refused]

    def extract(self) -> None:
        """Features of the initial and trained network, first of all: errors in them come before anything is written."""
        for at in WORDS:
            if at in self.subject.snapshots:
                self.features.at(at)

    def located(self, asked: StudyOptions, options: LocateOptions) -> tuple[Location | None, list[Row]]:
        """The location and its rows; None with a failed row if it cannot be computed."""
        ends = [at for at in WORDS if at in self.subject.snapshots]
        moved = _named(asked.params) if callable(asked.params) else asked.params
        made_by = self.subject.layers, _named(asked.factory), asked.ladder, options, moved, self.subject.rates
        key = self.key("location", *made_by, moments=ends)
        where = _kept_location(self.parts.get(key))
        if where is None:
            where, note = locate_subject(
                self.subject, asked=asked, options=options, seed=self.seed, progress=self.progress
            )
            if where is None:
                return None, location_rows(None, self.subject, note)
            if note:
                return where, location_rows(where, self.subject, note)
            text = where.to_json()
            self.parts.put(key, text)
            where = Location.from_json(text)
        return where, location_rows(where, self.subject, "")

    def pictures(self, rows: list[Row], umap: bool | str) -> tuple[dict[str, np.ndarray], list[Row]]:
        """CKA matrices (from the rows), spectra, and the plane of one layer; with rows for what could not be drawn."""
        arrays = cka_matrices(rows, self.subject, WORDS)
        places: list[tuple[str, str, str]] = []
        drawn = self.subject.layers[-1] if umap is True else umap or None
        for at, word in WORDS.items():
            if at not in self.subject.snapshots:
                continue
            for layer in self.subject.layers:
                places.append(("spectrum", at, layer))
                found = self._drawn(*places[-1], spectrum_arrays)
                arrays |= {f"spectrum/{word}/{layer}": a for a in found.values()}
            if drawn is not None:
                places.append(("umap", at, drawn))
                found = self._drawn(*places[-1], self._plane)
                arrays |= {"umap/labels" if k == "labels" else f"umap/{word}/{drawn}": a for k, a in found.items()}
        return arrays, [row for place in places for row in self.failures.get(place, [])]

    def _drawn(
        self,
        what: str,
        at: str,
        layer: str,
        make: Callable[[Representation], dict[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        if (what, at, layer) not in self.drawn:
            self.drawn[what, at, layer] = self._made(what, at, layer, make)
        return self.drawn[what, at, layer]

    def _made(
        self, what: str, at: str, layer: str, make: Callable[[Representation], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        key = self.key(what, layer, moments=[at])
        kept = self.parts.get_arrays(key)
        if kept is not None:
            return kept
        made, _, note = guarded(lambda: make(self.features.at(at)[layer]), f"{what} of {at} {layer}")
        if note:
            place = what, at, layer
            self.failures[place] = failed_rows([what], note, at=at, measure=what, layer=layer, n=self.subject.n)
            return {}
        self.parts.put_arrays(key, made)
        return made

    def _plane(self, rep: Representation) -> dict[str, np.ndarray]:
        rep = rep.take(umap_rows(rep.n, self.seed).to(rep.x.device))
        labels = {} if rep.labels is None else {"labels": rep.labels.cpu().numpy()}
        return {"plane": umap_plane(rep, self.seed), **labels}


def spectrum_arrays(rep: Representation) -> dict[str, np.ndarray]:
    """The spectrum of one layer, by name."""
    return {"spectrum": spectrum(rep)}


def _kept_location(text: Any) -> Location | None:
    """The location of a finished part; None where there is none that can be read."""
    try:
        return None if text is None else Location.from_json(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _named(function: Any) -> str | None:
    """A name that identifies a function across processes: where it was defined, and its code."""
    if function is None or isinstance(function, str):
        return function
    code = getattr(function, "__code__", None)
    body = "" if code is None else f"{code.co_code.hex()} {code.co_consts!r}"
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))} {body}"


def _software() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
            "platform": platform.platform()}  # fmt: skip
