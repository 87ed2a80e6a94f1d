"""Measure a recording: every area x every measure of layers, and pairs of areas, as the tidy table of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from geomfeat._version import __version__
from geomfeat.errors import require_kind
from geomfeat.geometry.manifolds import matched_capacities
from geomfeat.geometry.manifolds.capacity_floor import at_floor
from geomfeat.geometry.manifolds.trials._matched_capacities import MATCHED_NUMBERS
from geomfeat.numerics import whole_seed
from geomfeat.recordings import Recording
from geomfeat.recordings._signal_to_noise import signal_to_noise
from geomfeat.study.figure_arrays import spectrum
from geomfeat.study.measure_rows import guarded, measure_layers
from geomfeat.study.part_cache import Parts, fingerprint
from geomfeat.study.recorded_measures import RECORDED, in_words, plan_of
from geomfeat.study.result import Study
from geomfeat.study.table import Row, are_rows, failed_rows, row, table_of
from geomfeat.study.time_courses.study_rows import chosen, with_courses
from geomfeat.types import Estimate, Representation

# Rows of areas at equal numbers of units; random choices of them and draws in each.
CAPACITY, MATCHED, MATCHED_REPEATS, MATCHED_DRAWS = "capacity", "capacity_matched", 5, 50
CKA = "cka_linear_unbiased"


def analyze_recording(
    recording: Recording,
    *,
    measures: Sequence[str] | str | None = None,
    groups: str | None = "auto",
    time: str = "mean",
    over_time: Sequence[str] | str | None = "auto",
    name: str | None = None,
    resume: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Study:
    """Measure a recording, area by area: trials are samples, units features, conditions classes, runs groups.

    Args:
        recording: see `load_recording`. Areas become the layers of the table; without area labels all units are one.
        measures: names; default every measure of layers and of pairs of areas that needs no network, and the controls
            of the capacity, for shuffled conditions and for noise alone (`settings["left_out"]`: why others were not).
        groups: "run", "session", "subject", "auto" (the smallest that is labelled) or None: whole groups are held out,
            and errors over samples become errors over them; a row's note says what its error covers.
        time: of a time axis, "mean" over it, or "flatten".
        over_time: what is measured in every time bin besides: names of measures, and "trajectories"; "auto": a few that
            take little time, at most 50 bins; None: nothing. Their rows have `at` "over time" and the column `time`;
            `Study.course` is their time course. See `geomfeat.over_time` for paired differences and tests.
        name: of the study; default that of the recording. resume: a folder for finished parts.

    Returns Study without a location: `.table` (one row per number, `at` is "recorded"), `.arrays`, `.to_html(path)`,
    `.save(dir)`. A measure that fails gives rows with ok False and a note. Results depend on neither the order nor the
    choice of areas and measures, but for "capacity_matched": where areas differ in their number of units, capacity and
    geometry of all at as many as the smallest has.

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
    wanted = chosen(recording, over_time)
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
                if all(one["ok"] for one in found):
                    parts.put(key, found)
            rows += [{**one, "note": in_words(one["note"], word)} for one in found]
    if any(m.name == CAPACITY for m in plan.layer) and len({layer.d for layer in layers.values()}) > 1:
        key = fingerprint(common, (MATCHED, list(layers)))
        found = parts.get(key)
        if not are_rows(found):
            found = matched_rows(layers, seed)
            if all(one["ok"] for one in found):
                parts.put(key, found)
        rows += found
    arrays, failures = _arrays(layers, rows)
    name = name or recording.name or "recording"
    table = table_of([*rows, *failures], run=name, seed=seed, conditions={}, version=__version__)
    table, timed = with_courses(table, recording, wanted, groups=groups, seed=seed, parts=parts, progress=progress)
    conditions = list(map(str, recording.conditions))
    settings = {
        "version": __version__, "layers": list(layers), "measures": plan.names, "left_out": plan.left_out,
        "n": recording.n_trials, "labels": len(conditions) > 1, "classes": conditions,
        "seed": seed, "groups": _count(layers), "recording": facts_of_recording(recording, layers, groups, time),
        **timed,
    }  # fmt: skip
    return Study(name, table, None, arrays, settings)


def matched_rows(layers: Mapping[str, Representation], seed: int) -> list[Row]:
    """Capacity and geometry of areas of unequal size, at as many units as the smallest has: a row for each number."""
    facts = {
        area: {"at": RECORDED, "measure": MATCHED, "layer": area, "n": layer.n, "d": layer.d}
        for area, layer in layers.items()
    }
    found, seconds, note = guarded(
        lambda: matched_capacities(layers, repeats=MATCHED_REPEATS, n_draws=MATCHED_DRAWS, seed=seed),
        "capacity at equal numbers of units",
    )
    rows: list[Row] = []
    for i, (area, of) in enumerate(facts.items()):
        if note:
            rows += failed_rows(MATCHED_NUMBERS, note, seconds=seconds, **of)
            continue
        said = [one for one in found.notes if not at_floor(one) or one.startswith(f"{area}: ")]
        for name in MATCHED_NUMBERS:
            value, error = float(found.mean[name][i]), float(found.se[name][i])
            estimate = (
                Estimate(value, error if math.isfinite(error) else None, note="; ".join(said)) if math.isfinite(value)
                else Estimate.failed("not defined in every random choice of units")
            )  # fmt: skip
            rows.append(row(name, estimate, seconds=seconds, **of))
    return rows


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
        "signal_to_noise": {area: _known(signal_to_noise(layer)) for area, layer in layers.items()},
        "trials_per_condition": {str(k): v for k, v in recording.trials_per_condition.items()},
        "errors_over": f"{count} {word}s" if count else "trials",
        "time": "none" if times is None else f"{len(times)} points, {float(times[0]):g} to {float(times[-1]):g} s, "
                f"{'averaged' if time == 'mean' else 'each unit at each time is a feature'}",
        "pseudo_population": recording.pseudo, "notes": [*recording.notes, *recording.flags],
    }  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _count(layers: Mapping[str, Representation]) -> int | None:
    groups = next(iter(layers.values())).groups
    return None if groups is None else len(groups.unique())


def _arrays(layers: Mapping[str, Representation], rows: Sequence[Row]) -> tuple[dict[str, np.ndarray], list[Row]]:
    """CKA between areas, from the rows, and the spectrum of each; with rows for what could not be made."""
    arrays: dict[str, np.ndarray] = {}
    failures: list[Row] = []
    place = {area: i for i, area in enumerate(layers)}
    cells = [one for one in rows if one["measure"] == CKA]
    if cells:
        matrix = np.eye(len(layers))
        for one in cells:
            i, j = place[one["layer"]], place[one["layer_b"]]
            matrix[i, j] = matrix[j, i] = one["value"] if one["ok"] else np.nan
        arrays[f"cka/{RECORDED}/{RECORDED}"] = matrix
    for area, layer in layers.items():
        made, _, note = guarded(lambda layer=layer: spectrum(layer), f"spectrum of {area}")
        if note:
            failures += failed_rows(["spectrum"], note, at=RECORDED, measure="spectrum", layer=area, n=layer.n)
        else:
            arrays[f"spectrum/{RECORDED}/{area}"] = made
    return arrays, failures
