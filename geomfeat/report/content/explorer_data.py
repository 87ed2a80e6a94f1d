"""The data behind the interactive plots of a sweep's page: its trainings, their numbers and their courses, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.charts import theme as look
from geomfeat.comparison.relations.runs import FIT, LINEAR, Frame, Trainings
from geomfeat.comparison.relations.trajectories import trajectories
from geomfeat.report.content.components import clean
from geomfeat.report.content.sweep_charts import LEAST_COVERED, axis_name, is_signed, label_of, varying

# Choosing one value of a condition is for grids; a condition drawn at random has a value for every training.
MOST_CHOICES = 24
FIRST = ("richness R", "movement M", "excess E")


def explorer_data(found: Trainings, table: pd.DataFrame, *, courses: bool = False) -> dict[str, Any]:
    """What `explore.js` draws: names, every training with its conditions, phase and failure, and all last numbers.

    With `courses`, also every number at every moment, for trajectories. Arrays run over trainings in the table's order.
    """
    axes = varying(found)
    frame: Frame = found.frame
    keys = sorted(found.values.columns, key=lambda k: FIRST.index(label_of(k)) if label_of(k) in FIRST else len(FIRST))
    labels = _labels(keys)
    numbers = [
        {"name": n, "values": found.values[k].tolist(), "signed": is_signed(k)}
        for n, k in zip(labels, keys, strict=True)
    ]
    numbers += [
        {"name": f"training: {name.replace('_', ' ')}", "values": frame[name].tolist(), "signed": False}
        for name in (*FIT, "steps", "stability") if frame[name].notna().any()
    ]  # fmt: skip
    filters = [{"name": n, "values": frame[n].astype(object).tolist(), "one": True} for n in found.by]
    filters += [
        {"name": n, "values": frame[n].tolist(), "one": False} for n in (*(axes if len(axes) > 2 else ()), "seed")
        if 1 < frame[n].nunique() <= MOST_CHOICES
    ]  # fmt: skip
    return {
        "trainings": frame.index.tolist(), "seed": frame["seed"].tolist(),
        "used": frame["used"].tolist(), "why": frame["why"].tolist(), "phase": frame["phase"].tolist(),
        "axes": [{"name": a, "title": axis_name(a), "log": a not in LINEAR, "values": frame[a].tolist()} for a in axes],
        "filters": [{**f, "title": axis_name(f["name"]), "values": [_word(v) for v in f["values"]]} for f in filters],
        "numbers": numbers, "courses": _courses(found, table, keys, labels) if courses else [],
        "covered": LEAST_COVERED, "colours": list(look.CIVIDIS),
        "diverging": list(look.DIVERGING), "grey": look.GRID, "quiet": look.QUIET,
        "ink": look.INK, "warning": look.WARNING, "on_scale": look.ON_DARK,
        "marks": {kind: sign for kind, (sign, _) in look.PHASE_MARKS.items()},
    }  # fmt: skip


def json_text(data: Any) -> str:
    """JSON of five digits that can stand inside a script element: nothing in it can close the element."""
    text = json.dumps(clean(data), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _labels(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """Names of numbers; with their moment if two would be equal."""
    plain = [label_of(k) for k in keys]
    return [f"{n} ({k[3]})" if plain.count(n) > 1 else n for n, k in zip(plain, keys, strict=True)]


def _word(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _courses(
    found: Trainings, table: pd.DataFrame, keys: Sequence[tuple[str, ...]], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """For every training its steps, and for every number with more than one moment the values there."""
    asked = {f"k{i}": (k[0], k[1], k[2]) for i, k in enumerate(keys)}
    path: Frame = trajectories(table, **asked)
    several = [n for n in asked if (path.groupby("training")[n].count() > 1).any()]
    names = dict(zip(asked, labels, strict=True))
    groups = dict(iter(path.groupby("training", sort=False)))
    out = []
    for training in found.frame.index:
        rows = groups.get(training)
        out.append(
            {"steps": [], "values": {}} if rows is None
            else {"steps": rows["step"].tolist(), "values": {names[n]: rows[n].tolist() for n in several}}
        )  # fmt: skip
    return out
