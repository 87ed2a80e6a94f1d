"""The pieces of work of a study: each gives rows, is cheap to name, and can be saved and skipped by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any

import torch

from geomfeat._numba.threads import given_up, in_threads
from geomfeat.memory import free_bytes
from geomfeat.registry import Measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.study.cka_rows import ESTIMATORS, cka_cells
from geomfeat.study.measure_rows import SMALL, facts_of, guarded, measure_layers, measure_network, options_of
from geomfeat.study.measure_selection import MeasurePlan
from geomfeat.study.part_cache import fingerprint
from geomfeat.study.snapshots import INITIAL, TRAINED, Subject
from geomfeat.study.table import Row, failed_rows, row
from geomfeat.study.timeline import Course, series_of
from geomfeat.types import Estimate, Representation, Snapshot

CHANGE = "init->{}"
# Measures that users register may rest on what all threads share, such as random states. So does the probe, which reads
# off Python's warnings whether a fit has converged.
OWN, ALONE = "geomfeat.measures.", {"linear_probe_accuracy"}
HELD = 256  # bytes for each number of a layer that its measures hold at once, at most


@dataclass(frozen=True, eq=False)
class Task:
    """A piece of work.

    Attributes:
        label: for the progress bar. address: what, besides the study's common settings, decides its rows.
        moments: snapshots whose features it needs, or whose weights it depends on.
        beside: whether it may run beside those of other layers.
    """

    label: str
    address: tuple[Any, ...]
    moments: tuple[str, ...]
    rows: Callable[[], list[Row]]
    beside: bool = False

    @property
    def place(self) -> tuple[str, str] | None:
        """The moment and the layer that it measures; None for other work."""
        return (self.moments[0], self.address[-1]) if self.address[0] == "layer" else None


@dataclass
class Features:
    """Features by moment, extracted at first use. Those of a checkpoint give way to the next one's."""

    subject: Subject
    progress: bool = False
    _kept: dict[str, dict[str, Representation]] = field(default_factory=dict)
    _pair: tuple[Snapshot, SnapshotPair] | None = None

    def at(self, at: str) -> dict[str, Representation]:
        """{layer: Representation} of one moment."""
        if at not in self._kept:
            for old in [k for k in self._kept if k not in (INITIAL, TRAINED)]:
                del self._kept[old]
            self._kept[at] = self.subject.features(at, self.progress)
        return self._kept[at]

    def pair(self, at: str, seed: int) -> SnapshotPair:
        """The initial network and that of `at`, as network diagnostics take them; the last one made is cached.

        The diagnostics want features as they are: reduced or projected ones are left to them to extract.
        """
        after = self.subject.snapshots[at]
        if self._pair is None or self._pair[0] is not after:
            subject, look = self.subject, self.subject.look
            whole = look.options.reduce == "flatten" and not subject.projected
            pair = SnapshotPair(
                subject.snapshots[INITIAL], after, subject.inputs, subject.labels, subject.layers, seed,
                None if look.device is None else str(look.device), look.readout,
                self.at(INITIAL) if whole else None, self.at(at) if whole else None,
            )  # fmt: skip
            self._pair = after, pair
        return self._pair[1]


def tasks_of(subject: Subject, plan: MeasurePlan, features: Features, seed: int, course: Course) -> Iterator[Task]:
    """All work on measures: by moment, layers and then changes from the initial network; over time; pairs of layers."""
    for at in subject.snapshots:
        for layer in subject.layers:
            for m in plan.layer:
                yield _layer_task(subject, features, m, at, layer, seed)
        if at != INITIAL and INITIAL in subject.snapshots:
            yield from _change_tasks(subject, plan, features, at, seed)
    for m in plan.series:
        yield _series_task(subject, course, m, seed)
    moments = [at for at in (INITIAL, TRAINED) if at in subject.snapshots]
    for a, b in [(at, at) for at in moments] + ([(INITIAL, TRAINED)] if len(moments) == 2 else []):
        cka = [m for m in plan.pairs if m.name in ESTIMATORS]
        if cka:
            yield _cka_task(subject, features, cka, a, b, seed)
        for m in plan.pairs:
            if m.name not in ESTIMATORS:
                yield _pairs_task(subject, features, m, a, b, seed)


def work_through(tasks: Sequence[Task], features: Features, do: Callable[[Task], None]) -> None:
    """do(task) for all of them: those of small layers side by side, each layer on one thread, the others in order.

    Much of the work on a layer is of single steps, decompositions say, that a second thread is no help with.
    """
    for at, some in groupby(tasks, lambda task: None if task.place is None else task.place[0]):
        here = list(some)
        reps = {} if at is None else _features(features, at)[0]
        small = {layer for layer, rep in reps.items() if rep.x.device.type == "cpu" and rep.x.numel() < SMALL}
        beside = [task for task in here if task.beside and task.address[-1] in small]
        layers = [list(of) for _, of in groupby(beside, lambda task: task.place)]

        def some_layers(first: int, last: int, layers: list[list[Task]] = layers) -> None:
            for task in chain(*layers[first:last]):
                if not given_up():
                    do(task)

        if layers:
            most = free_bytes() // (HELD * max(reps[layer].x.numel() for layer in small))
            in_threads(some_layers, len(layers), share=math.ceil(len(layers) / max(1, most)))
        for task in (task for task in here if task not in beside):
            do(task)


def at_of(a: str, b: str) -> str:
    """The `at` of a pair of moments: one name where they are the same.

    >>> at_of("trained", "trained"), at_of("init", "trained")
    ('trained', 'init->trained')
    """
    return a if a == b else f"{a}->{b}"


def _layer_task(subject: Subject, features: Features, m: Measure, at: str, layer: str, seed: int) -> Task:
    def rows() -> list[Row]:
        reps, problem = _features(features, at)
        if problem:
            return failed_rows(m.quantities, problem, at=at, measure=m.name, layer=layer, n=subject.n)
        return measure_layers(m, reps[layer], seed=seed, at=at)

    beside = m.function.__module__.startswith(OWN) and m.name not in ALONE
    return Task(f"{at} {layer} {m.name}", ("layer", m.name, m.options, layer), (at,), rows, beside)


def _change_tasks(subject: Subject, plan: MeasurePlan, features: Features, at: str, seed: int) -> Iterator[Task]:
    for m in plan.changes:
        for layer in subject.layers:

            def rows(m: Measure = m, layer: str = layer) -> list[Row]:
                reps, problem = _features(features, at)
                facts = {"at": CHANGE.format(at), "measure": m.name, "layer": layer, "layer_b": layer}
                if problem:
                    return failed_rows(m.quantities, problem, **facts, n=subject.n)
                return measure_layers(m, features.at(INITIAL)[layer], reps[layer], seed=seed, at=facts["at"])

            yield Task(f"{at} {layer} {m.name}", ("change", m.name, m.options, layer), (INITIAL, at), rows)
    for m in plan.network:

        def network_rows(m: Measure = m) -> list[Row]:
            return _network_rows(m, lambda: features.pair(at, seed), subject, CHANGE.format(at), seed)

        yield Task(f"{at} {m.name}", ("network", m.name, m.options, subject.layers), (INITIAL, at), network_rows)


def _series_task(subject: Subject, course: Course, m: Measure, seed: int) -> Task:
    def rows() -> list[Row]:
        return _network_rows(m, lambda: series_of(subject, course), subject, course.at, seed)

    # How the outputs are read depends on the trained network too, whether its step is known or not.
    moments = tuple(dict.fromkeys((*course.steps, TRAINED)))
    known = (course.steps, course.loss, course.gamma, fingerprint(course.test))
    return Task(f"{course.at} {m.name}", ("series", m.name, m.options, *known), moments, rows)


def _network_rows(m: Measure, make: Callable[[], Any], subject: Subject, at: str, seed: int) -> list[Row]:
    """Rows of a diagnostic on the snapshots that `make` puts together."""
    model = subject.snapshots[TRAINED].model
    first = next(chain(model.parameters(), model.buffers()), torch.zeros(0))
    facts = {"at": at, "n": subject.n, "device": str(subject.look.device or first.device.type)}
    made, seconds, problem = guarded(make, f"snapshots of {at}")
    if problem:
        return failed_rows(m.quantities, problem, measure=m.name, seconds=seconds, **facts)
    return measure_network(m, made, seed=seed, facts={**facts, "dtype": str(first.dtype).removeprefix("torch.")})


def _cka_task(subject: Subject, features: Features, cka: list[Measure], a: str, b: str, seed: int) -> Task:
    by_estimator = {ESTIMATORS[m.name]: m for m in cka}

    def rows() -> list[Row]:
        reps = {(at, layer): rep for at in dict.fromkeys((a, b)) for layer, rep in features.at(at).items()}
        pairs = [((a, i), (b, j)) for i, j in _layer_pairs(subject, a, b)]
        found: list[Row] = []
        cells, seconds, problem = guarded(lambda: dict(cka_cells(reps, pairs, list(by_estimator))), "CKA")
        for left, right in pairs:
            both = reps[left], reps[right]
            for estimator, m in by_estimator.items():
                cell = None if problem else cells[left, right][estimator]
                if cell is None:  # the measure itself decides, and says why where it is undefined
                    found += measure_layers(m, *both, seed=seed, at=at_of(a, b))
                    continue
                facts = {**facts_of(*both), "at": at_of(a, b), "measure": m.name, "options": options_of(m, *both)}
                found.append(row(m.name, Estimate(*cell), seconds=seconds / (len(pairs) * len(cka)), **facts))
        return found

    address = ("cka", [(m.name, m.options) for m in cka], subject.layers, at_of(a, b))
    return Task(f"{at_of(a, b)} cka", address, (a, b), rows)


def _pairs_task(subject: Subject, features: Features, m: Measure, a: str, b: str, seed: int) -> Task:
    def rows() -> list[Row]:
        left, right = features.at(a), features.at(b)
        pairs = _layer_pairs(subject, a, b)
        return [r for i, j in pairs for r in measure_layers(m, left[i], right[j], seed=seed, at=at_of(a, b))]

    address = ("pairs", m.name, m.options, subject.layers, at_of(a, b))
    return Task(f"{at_of(a, b)} {m.name}", address, (a, b), rows)


def _layer_pairs(subject: Subject, a: str, b: str) -> list[tuple[str, str]]:
    """All pairs between two moments; within one, each pair of different layers once (a layer is like itself)."""
    layers = subject.layers
    if a != b:
        return [(i, j) for i in layers for j in layers]
    return [(i, j) for k, i in enumerate(layers) for j in layers[k + 1 :]]


def _features(features: Features, at: str) -> tuple[Mapping[str, Representation], str]:
    """Features of a moment, or why there are none: a checkpoint that diverged costs its own rows only."""
    if at in (INITIAL, TRAINED):
        return features.at(at), ""
    made, _, problem = guarded(lambda: features.at(at), f"features of {at}")
    return made or {}, problem
