"""Measure a recording: every area x every measure of layers, and pairs of areas, as the tidy table of a study."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from geomfeat._version import __version__
from geomfeat.errors import BadInput, require_kind
from geomfeat.numerics import whole_seed
from geomfeat.recordings import Recording
from geomfeat.registry import Measure, get
from geomfeat.study.figure_arrays import spectrum
from geomfeat.study.measure_rows import guarded, measure_layers
from geomfeat.study.measure_selection import WAITS, MeasurePlan, make_plan
from geomfeat.study.part_cache import Parts, fingerprint
from geomfeat.study.result import Study
from geomfeat.study.table import Row, are_rows, failed_rows, table_of
from geomfeat.types import Representation

RECORDED = "recorded"
CKA = "cka_linear_unbiased"
OF_NETWORKS = "it is a measure of networks: a recording has no weights, outputs or initial state"
ONE_CONDITION = "it compares conditions, and the recording has one"


def analyze_recording(
    recording: Recording,
    *,
    measures: Sequence[str] | str | None = None,
    groups: str | None = "auto",
    time: str = "mean",
    name: str | None = None,
    resume: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Study:
    """Measure a recording, area by area: trials are samples, units features, conditions classes, runs groups.

    Args:
        recording: see `load_recording`. Areas become the layers of the table; without area labels all units are one.
        measures: names; default every measure of layers and of pairs of areas that needs no network
            (`settings["left_out"]` says why others were not run).
        groups: "run", "session", "subject", "auto" (the smallest that is labelled) or None: whole groups are held out,
            and errors over samples become errors over them; a row's note says what its error covers.
        time: of a time axis, "mean" over it, or "flatten".
        name: of the study; default that of the recording. resume: a folder for finished parts.

    Returns Study without a location: `.table` (one row per number, `at` is "recorded"), `.arrays`, `.to_html(path)`,
    `.save(dir)`. A measure that fails gives rows with ok False and a note. Results depend on neither the order nor the
    choice of areas and measures.

    Raises BadInput before any work for a measure that needs a network or more conditions than there are.

    >>> import torch
    >>> x = torch.randn(24, 6, generator=torch.Generator().manual_seed(0)) + torch.eye(6)[[0, 1, 2] * 8]
    >>> found = analyze_recording(Recording(x, ["a", "b", "c"] * 8, area=["V1"] * 3 + ["V4"] * 3),
    ...                           measures=["participation_ratio", "cka_linear_unbiased"], progress=False)
    >>> found.table[["at", "layer", "layer_b", "measure"]].values.tolist()[-1]
    ['recorded', 'V1', 'V4', 'cka_linear_unbiased']
    """
    require_kind(recording, Recording, "recording")
    plan = plan_of(measures, len(recording.conditions) > 1)
    layers = recording.to_representations(groups=groups, time=time)
    parts, data = Parts(resume), fingerprint({k: (v.x, v.labels, v.groups) for k, v in layers.items()})
    common = (__version__, whole_seed(seed), data, groups, time)
    rows: list[Row] = []
    word = recording.group_word if groups == "auto" else groups
    work = [(m, (area,)) for area in layers for m in plan.layer]
    work += [(m, pair) for m in plan.pairs for pair in combinations(layers, 2)]
    with tqdm(work, desc="measure", disable=not progress) as bar:
        for m, areas in bar:
            bar.set_postfix_str(f"{' '.join(areas)} {m.name}", refresh=False)
            key = fingerprint(common, (m.name, m.options, areas))
            found = parts.get(key)
            if not are_rows(found):
                found = measure_layers(m, *(layers[area] for area in areas), seed=seed, at=RECORDED)
                if all(row["ok"] for row in found):
                    parts.put(key, found)
            rows += [{**row, "note": in_words(row["note"], word)} for row in found]
    arrays, failures = _arrays(layers, rows)
    name = name or recording.name or "recording"
    table = table_of([*rows, *failures], run=name, seed=seed, conditions={}, version=__version__)
    conditions = list(map(str, recording.conditions))
    settings = {
        "version": __version__, "layers": list(layers), "measures": plan.names, "left_out": plan.left_out,
        "n": recording.n_trials, "labels": len(conditions) > 1, "classes": conditions,
        "seed": seed, "groups": _count(layers), "recording": facts_of_recording(recording, layers, groups, time),
    }  # fmt: skip
    return Study(name, table, None, arrays, settings)


def in_words(note: str, word: str | None) -> str:
    """A note of a measure with the word for what its groups are.

    >>> in_words("error over draws, not over the 12 groups of samples", "run")
    'error over draws, not over the 12 runs'
    """
    return re.sub(r"(\d+) groups( of samples)?\b", rf"\1 {word}s", note) if word else note


def plan_of(measures: Sequence[str] | str | None, several_conditions: bool) -> MeasurePlan:
    """Measures of layers and pairs that a recording allows; BadInput for one that was asked for and cannot be taken."""
    plan = make_plan(measures, {"labels"} if several_conditions else set())
    reasons = {m.name: _reason(m, why) for m, why in plan.refused}
    reasons |= {m.name: OF_NETWORKS for m in (*plan.changes, *plan.network, *plan.series)}
    if measures is not None and reasons:
        first = next(iter(reasons))
        raise BadInput(f"measure {first!r} cannot be taken: {reasons[first]}")
    left_out = {name: why if why == WAITS else _reason(get(name), why) for name, why in plan.left_out.items()} | reasons
    return MeasurePlan(plan.layer, plan.pairs, (), (), (), (), left_out)


def _reason(m: Measure, why: str) -> str:
    return ONE_CONDITION if m.needs == {"labels"} and m.scope in ("layer", "pair") else OF_NETWORKS if m.needs else why


def facts_of_recording(
    recording: Recording, layers: Mapping[str, Representation], groups: str | None, time: str
) -> dict[str, Any]:
    """What was recorded and how it was measured, as JSON."""
    word = recording.group_word if groups == "auto" else groups
    count = _count(layers)
    times = recording.time
    return {
        "trials": recording.n_trials, "units": recording.n_units,
        "units_by_area": {area: layer.d if times is None or time == "mean" else layer.d // len(times)
                          for area, layer in layers.items()},
        "trials_per_condition": {str(k): v for k, v in recording.trials_per_condition.items()},
        "errors_over": f"{count} {word}s" if count else "trials",
        "time": "none" if times is None else f"{len(times)} points, {float(times[0]):g} to {float(times[-1]):g} s, "
                f"{'averaged' if time == 'mean' else 'each unit at each time is a feature'}",
        "pseudo_population": recording.pseudo, "notes": [*recording.notes, *recording.flags],
    }  # fmt: skip


def _count(layers: Mapping[str, Representation]) -> int | None:
    groups = next(iter(layers.values())).groups
    return None if groups is None else len(groups.unique())


def _arrays(layers: Mapping[str, Representation], rows: Sequence[Row]) -> tuple[dict[str, np.ndarray], list[Row]]:
    """CKA between areas, from the rows, and the spectrum of each; with rows for what could not be made."""
    arrays: dict[str, np.ndarray] = {}
    failures: list[Row] = []
    place = {area: i for i, area in enumerate(layers)}
    cells = [row for row in rows if row["measure"] == CKA]
    if cells:
        matrix = np.eye(len(layers))
        for row in cells:
            i, j = place[row["layer"]], place[row["layer_b"]]
            matrix[i, j] = matrix[j, i] = row["value"] if row["ok"] else np.nan
        arrays[f"cka/{RECORDED}/{RECORDED}"] = matrix
    for area, layer in layers.items():
        made, _, note = guarded(lambda layer=layer: spectrum(layer), f"spectrum of {area}")
        if note:
            failures += failed_rows(["spectrum"], note, at=RECORDED, measure="spectrum", layer=area, n=layer.n)
        else:
            arrays[f"spectrum/{RECORDED}/{area}"] = made
    return arrays, failures
