"""What changed to gain capacity, and in which stages: by layer, as sentences and one table with every training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from geomfeat.comparison.relations.capacity_stages import NO_CHANGE, PARTS, STRATEGIES, stages, strategies
from geomfeat.comparison.relations.runs import Frame, Trainings
from geomfeat.comparison.relations.trajectories import CANNOT_TELL, courses
from geomfeat.report.content.components import Table, grid, number_cell, text_cell
from geomfeat.report.content.number_format import number
from geomfeat.report.content.sweep_charts import axis_name, varying

CAPACITY = "capacity"
MOST_LAYERS, MOST_ROWS = 6, 400


@dataclass(frozen=True, eq=False)
class LayerStory:
    """A layer's name, what its trainings did in sentences, and every training's changes."""

    layer: str
    sentences: list[str]
    table: Table
    total: int


def capacity_layers(found: Trainings) -> list[str]:
    """Layers with capacity, radius and dimension; where there are many, evenly chosen ones from first to last."""
    there = {(k[1], k[2]) for k in found.values.columns if k[0] == CAPACITY}
    layers = [k[2] for k in found.values.columns if k[:2] == (CAPACITY, CAPACITY)]
    layers = [x for x in dict.fromkeys(layers) if all((part, x) in there for part in PARTS)]
    if len(layers) <= MOST_LAYERS:
        return layers
    return [layers[round(i * (len(layers) - 1) / (MOST_LAYERS - 1))] for i in range(MOST_LAYERS)]


def stories(found: Trainings, table: pd.DataFrame) -> list[LayerStory]:
    """One for every layer with a capacity."""
    return [_story(found, table, layer) for layer in capacity_layers(found)]


def _story(found: Trainings, table: pd.DataFrame, layer: str) -> LayerStory:
    changed: dict[str, Any] = {r["training"]: r for r in strategies(table, layer).to_dict("records")}
    ways = {str(r["training"]): str(r["course"]) for r in courses(table, layer).to_dict("records")}
    pieces: dict[str, list[Any]] = {}
    for r in stages(table, layer).to_dict("records"):
        pieces.setdefault(str(r["training"]), []).append(r)
    frame: Frame = found.frame
    conditions = [*found.by, *varying(found), "seed"]
    rows = []
    for training, row in frame[frame.index.isin(list(changed))].head(MOST_ROWS).iterrows():
        r, of = changed[training], str(training)
        cells = [number_cell(float(row[c])) if isinstance(row[c], int | float) else text_cell(row[c])
                 for c in conditions]  # fmt: skip
        cells += [text_cell(row["phase"]), text_cell(r["strategy"], "", r["note"])]
        cells += [number_cell(r[p], r[f"{p}_se"]) for p in PARTS]
        rows.append((of, [*cells, text_cell(ways.get(of, "")), text_cell(_sequence(pieces.get(of, [])))]))
    head = (
        "run",
        *(axis_name(c) if c.startswith("has_") else c for c in conditions),
        "phase",
        "strategy",
        *(f"Δ log {p}" for p in PARTS),
        "course",
        "stages",
    )
    sentences = _sentences(found, list(changed.values()), list(ways.values()), pieces)
    return LayerStory(layer, sentences, grid(head, rows), len(changed))


def _sequence(pieces: Sequence[Any]) -> str:
    """Stages with their steps, or why there are none."""
    if len(pieces) == 1 and pieces[0]["stage"] == CANNOT_TELL:
        return str(pieces[0]["note"])
    return ", ".join(f"{p['stage']} {number(p['from_step'])} to {number(p['to_step'])}" for p in pieces)


def _sentences(
    found: Trainings, changed: Sequence[Any], ways: Sequence[str], pieces: dict[str, list[Any]]
) -> list[str]:
    sentences = []
    lost = len(found.frame) - len(changed)
    rising = [r for r in changed if r["strategy"] in STRATEGIES.values() and r["capacity"] > 0]
    falling = [r for r in changed if r["strategy"] in STRATEGIES.values() and r["capacity"] < 0]
    for several, word, did in ((rising, "rose", "gain"), (falling, "fell", "loss")):
        if several:
            sentences.append(
                f"Capacity {word} in {len(several)} of {len(changed)} trainings; most of the {did} came from "
                f"{_counts([r['strategy'] for r in several])}."
            )
    still = sum(r["strategy"] == NO_CHANGE for r in changed)
    unknown = sum(r["strategy"] == CANNOT_TELL for r in changed)
    if still:
        sentences.append(f"In {still} of {len(changed)} it changed by less than two standard errors.")
    if unknown:
        sentences.append(f"In {unknown} of {len(changed)} the change is unknown; the table gives the reason.")
    sentences.append(f"Dimension and radius together: {_counts(ways)}.")
    known = [[p["stage"] for p in several] for several in pieces.values() if several[0]["stage"] != CANNOT_TELL]
    if known:
        sentences.append(f"Stages in order: {_counts([', then '.join(s) for s in known])}.")
    else:
        sentences.append("No stages: they need numbers at six steps or more (train.snapshots and measure.snapshots).")
    if lost:
        sentences.append(f"{lost} of {len(found.frame)} trainings have no capacity here: see the failures.")
    return sentences


def _counts(words: Sequence[str]) -> str:
    found = pd.Series(list(words), dtype=object).value_counts()
    shown = "; ".join(f"{word} ({n})" for word, n in found.head(4).items())
    return f"{shown}; others ({int(found.iloc[4:].sum())})" if len(found) > 4 else shown
