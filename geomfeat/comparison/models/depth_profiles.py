"""Capacity, dimension and other measures of every layer of every model, over depth and under common random numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import pandas as pd
from tqdm import tqdm

from geomfeat._version import __version__
from geomfeat.comparison.models.members import Member
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import Capacity, capacity_by_layer, capacity_difference, matched_capacities
from geomfeat.geometry.manifolds.capacity_floor import at_floor
from geomfeat.measures.layer.capacity import estimates
from geomfeat.registry import Measure
from geomfeat.study.measure_rows import facts_of, guarded, measure_layers, options_of, threads_for
from geomfeat.study.measure_selection import make_plan
from geomfeat.study.table import Row, failed_rows, row, table_of
from geomfeat.types import Representation

CAPACITY = "capacity"
DEFAULT = (CAPACITY, "participation_ratio_corrected", "two_nn")
DIFFERENCE_COLUMNS = (
    "model", "layer", "other", "other_layer", "log_difference", "stderr", "stderr_unpaired", "difference", "note",
)  # fmt: skip


def profile_measures(measures: Sequence[str] | str | None, labels: bool) -> tuple[list[Measure], dict[str, str]]:
    """(measures of single layers, {name: why it is left out}). None means `DEFAULT`, an empty list none.

    Raises BadInput for an unknown name, a measure of more than one layer, or one asked for whose needs are not met.
    """
    if measures is not None and not measures:
        return [], {}
    names = DEFAULT if measures is None else measures
    plan = make_plan(names, {"labels"} if labels else set())
    other = [*plan.pairs, *plan.changes, *plan.network]
    if other:
        raise BadInput(
            f"measure {other[0].name!r} is not of a single layer: profiles over depth need measures of layers"
        )
    missing = {m.name: why for m, why in plan.refused}
    if missing and measures is not None:
        name = next(iter(missing))
        raise BadInput(f"measure {name!r} cannot be taken: {missing[name]}")
    return list(plan.layer), missing


def profiles_of(
    members: Sequence[Member],
    measures: Sequence[Measure],
    *,
    n_draws: int,
    seed: int,
    every_trial: Mapping[str, Mapping[str, Representation]] | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(table with a row per number, differences of capacity between the last layers of each two models).

    The table is that of a study with the columns model and depth in place of run and at. The draws of the capacity are
    made from the samples and the seed alone (`common_draws`), the same for every layer of every model. With
    `every_trial` (model -> layer -> all trials, of recordings) differences are of equal numbers of trials and units,
    chosen at random again and again (`matched_capacities`).
    """
    rows: dict[str, list[Row]] = {member.name: [] for member in members}
    last: dict[str, tuple[str, Capacity]] = {}
    work = [(member, layer, rep) for member in members for layer, rep in _features(member)]
    with tqdm(work, desc="profiles", unit="layer", disable=not progress) as bar:
        for member, layer, rep in bar:
            bar.set_postfix_str(f"{member.name} {layer}")
            for m in measures:
                if m.name != CAPACITY:
                    rows[member.name] += measure_layers(m, rep, seed=seed, at="")
                    continue
                found, made = _capacity(m, rep, n_draws, seed)
                rows[member.name] += found
                if made is not None:
                    last[member.name] = (layer, made)
    frames = [table_of(rows[m.name], run=m.name, seed=seed, conditions={}, version=__version__) for m in members]
    table = pd.concat(frames, ignore_index=True).drop(columns=["at", "layer_b"]).rename(columns={"run": "model"})
    depths = {(m.name, layer): m.depth(layer) for m in members for layer in m.layers}
    depth = [depths[key] for key in zip(table["model"], table["layer"], strict=True)]
    table.insert(list(table.columns).index("layer") + 1, "depth", pd.Series(depth, dtype="float64"))
    differences = _matched_differences(last, every_trial, n_draws, seed) if every_trial else _differences(last)
    return table, differences


def _features(member: Member) -> list[tuple[str, Representation]]:
    """Layers with features, under the names that the comparison has for them."""
    found = [(layer, rep) for layer, rep in member.layers.items() if isinstance(rep, Representation)]
    return [(layer, rep if rep.layer == layer else rep.with_(layer=layer)) for layer, rep in found]


def _capacity(m: Measure, rep: Representation, n_draws: int, seed: int) -> tuple[list[Row], Capacity | None]:
    facts: dict[str, Any] = {"at": "", "measure": m.name, "options": options_of(m, rep), **facts_of(rep)}

    def work() -> Capacity:
        some, drawn = m.sampled(rep, seed)
        with threads_for(rep):
            found = capacity_by_layer({rep.layer: some}, n_draws=n_draws, seed=seed)[rep.layer]
        return replace(found, notes=(*found.notes, drawn)) if drawn else found

    found, facts["seconds"], note = guarded(work, f"capacity of {rep.layer}")
    if note:
        return failed_rows(m.quantities, note, **facts), None
    return [row(name, estimate, **facts) for name, estimate in estimates(found).items()], found


def _matched_differences(
    last: Mapping[str, tuple[str, Capacity]],
    every_trial: Mapping[str, Mapping[str, Representation]],
    n_draws: int,
    seed: int,
) -> pd.DataFrame:
    """The same at equal numbers of trials of each condition and of units."""
    if len(last) < 2:
        return _differences(dict(last))
    found = matched_capacities(
        {model: every_trial[model][layer] for model, (layer, _) in last.items()}, n_draws=n_draws, seed=seed
    )
    relative = {name: float(found.se[CAPACITY][i] / found.mean[CAPACITY][i]) for i, name in enumerate(found.names)}
    rows = []
    for a, b in combinations(last, 2):
        log_difference, log_error = found.difference(a, b, log=True)
        notes = [note for note in found.notes if not at_floor(note) or note.startswith((f"{a}: ", f"{b}: "))]
        rows.append((
            a, last[a][0], b, last[b][0], log_difference, log_error,
            math.hypot(relative[a], relative[b]) if math.isfinite(log_error) else math.nan,
            found.difference(a, b)[0], "; ".join(notes),
        ))  # fmt: skip
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))


def _differences(last: dict[str, tuple[str, Capacity]]) -> pd.DataFrame:
    rows = []
    for a, b in combinations(last, 2):
        (layer, first), (other, second) = last[a], last[b]
        found = capacity_difference(first, second)
        rows.append((
            a, layer, b, other, found.log_difference, found.log_difference_se, found.log_difference_se_unpaired,
            found.difference, "; ".join((*found.notes, f"error over {found.errors_over}")),
        ))  # fmt: skip
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))
