"""How the location and every measure depend on init scale, learning rate and width, and which follow richness or fit.

All of it reads the tidy table of a sweep. Conditions that are positive numbers and vary are axes, taken as log10;
text, yes-or-no conditions and the depth split the trainings into groups, each fitted by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.comparison.relations.drivers import FOLLOW_COLUMNS, follow_row
from geomfeat.comparison.relations.expected_slopes import agreement, expected_slope
from geomfeat.comparison.relations.optimizer_phase import BEYOND, FLOW
from geomfeat.comparison.relations.runs import Frame, Trainings, axes_of, check_known, coordinates, trainings_of
from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.statistics.least_squares import design_of, explained, fitted_slopes
from geomfeat.statistics.partial_correlation import with_intervals

LOCATION, RICHNESS = "location", ("location", "richness", "")
ALL, FLOW_ONLY, BEYOND_FLOW = "all", "flow", "beyond flow"
NUMBER = ["measure", "quantity", "layer", "at"]
SLOPE_COLUMNS = [
    *NUMBER, "cells", "term", "slope", "stderr", "low", "high", "interval", "theory", "expected", "verdict", "r2",
    "n", "n_seeds", "n_left_out", "note",
]  # fmt: skip
CORRELATION_COLUMNS = [*NUMBER, "axis", "rho", "low", "high", "interval", "n", "n_seeds", "n_left_out", "note"]
ONE_SEED = "one seed: the interval is from the scatter of single trainings, which includes the misfit of the plane"
LONE_SEED = "too few seeds identify this slope (one, or only all together): no interval"
TWO_SEEDS = "two seeds: the interval is as wide as it has to be"


@dataclass(frozen=True, eq=False)
class Related(BaseResult):
    """What `relate` found. Every table begins with the columns that split the trainings into groups, if any.

    Attributes:
        slopes: one row per number and term: `slope` per decade, `stderr`, `low`, `high`, `interval` (what it is from:
            "seeds", "residuals", "none"), `theory` and `expected` (as text), `verdict`, `r2` of the plane; `cells` says
            which trainings: "all", and for the location "flow" and "beyond flow" where phases are known.
        correlations: one row per number and axis: `rho`, Spearman's, given the other axes.
        follow: one row per number: rho with richness given the fit, with the fit given richness, and `follows`.
        trainings: every training with its conditions, last losses, `phase`, `used` and `why` not.
        by: the grouping columns. axes: the conditions that vary. level: of all intervals. notes: for the reader.

    `to_frame()`: `slopes`.
    """

    slopes: pd.DataFrame
    correlations: pd.DataFrame
    follow: pd.DataFrame
    trainings: pd.DataFrame
    by: tuple[str, ...]
    axes: tuple[str, ...]
    level: float
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """The slopes, one row for each number and term."""
        return self.slopes.copy()

    def __str__(self) -> str:
        used = self.trainings["used"].tolist().count(True)
        numbers = f"{len(self.slopes)} slopes, {100 * self.level:g} % intervals"
        return f"Related: {used} of {len(self.trainings)} trainings, over {', '.join(self.axes)}; {numbers}"


def relate(table: pd.DataFrame, *, measures: Sequence[str] | None = None, level: float = 0.9, seed: int = 0) -> Related:
    """Slopes of every measure on init scale, learning rate and width, and which measures follow richness or fit.

    Args:
        table: rows as in `geomfeat.study.table`, with conditions as columns and rows of measure "training".
        measures: names of measures to relate besides the location; default all in the table.
        level: of each interval; not corrected for many numbers: 1 - level of the true zeros appear nonzero.
        seed: of the bootstrap over seeds, which is random for 7 seeds or more and exhaustive below.

    Diverged, failed and unmatched trainings are counted in `notes`, marked in `trainings` and left out of every fit.
    The plane is fitted to this grid: its interval covers other seeds, not other grids.

    Raises BadInput for missing columns, an unknown measure, or a table in which no condition varies.

    >>> rows = [dict(run=f"{s} {k}", seed=k, at="trained", sigma=10.0**s, layer="", layer_b="", measure="location",
    ...              quantity="richness", value=0.1 * k - 2 * s, ok=True, note="") for s in (-1, 0, 1) for k in (0, 1)]
    >>> found = relate(pd.DataFrame(rows)).slopes.iloc[0]
    >>> found["term"], round(float(found["slope"]), 6)
    ('sigma', -2.0)
    """
    found = trainings_of(table)
    if measures is not None:
        check_known(measures, set(found.values.columns.get_level_values(0)) | {LOCATION}, "measure")
    if not found.axes:
        raise BadInput("no positive condition has two values, so no slope can be fitted: vary sigma or eta")
    keys = [k for k in found.values.columns if measures is None or k[0] in (*measures, LOCATION)]
    slopes, correlations, follow, notes = [], [], [], list(found.notes)
    for facts, group in found.groups():
        used = group[group["used"]]
        axes, problem = _usable_axes(used, found.axes)
        if problem:
            notes.append(f"{_named(facts)}{problem}")
        for key in keys:
            if axes:
                slopes += _slope_rows(found, used, key, axes, facts, level, seed, len(group))
                correlations += _correlation_rows(found, used, key, axes, facts, level, seed, len(group))
            row = follow_row(found, used, key, level=level, seed=seed)
            follow += [] if row is None else [{**facts, **row}]
    by = list(found.by)
    return Related(
        pd.DataFrame(slopes, columns=[*by, *SLOPE_COLUMNS]),
        pd.DataFrame(correlations, columns=[*by, *CORRELATION_COLUMNS]),
        pd.DataFrame(follow, columns=[*by, *FOLLOW_COLUMNS]),
        found.frame.reset_index(), found.by, found.axes, level, tuple(notes),
    )  # fmt: skip


def residuals(table: pd.DataFrame, measure: str, quantity: str, layer: str = "") -> pd.DataFrame:
    """What the plane over all axes leaves of one number: the trainings with `value`, `fitted` and `residual`.

    Trainings that are not used, or without the number, keep their row, with NaN. A pattern in the mean over seeds
    is curvature, which a slope does not describe. BadInput for an unknown name.
    """
    found = trainings_of(table)
    key = found.key(measure, quantity, layer)
    out = found.frame.assign(value=found.values[key], fitted=np.nan)
    for _, group in found.groups():
        rows = group[group["used"] & found.values.loc[group.index, [key]].notna().to_numpy().ravel()]
        axes, _ = _usable_axes(rows, found.axes)
        if axes:
            design = design_of(coordinates(rows, axes), axes)
            y = found.values.loc[rows.index, [key]].to_numpy().ravel()
            out.loc[rows.index, "fitted"] = explained(design.x, y)[0]
    return out.assign(residual=out["value"] - out["fitted"]).reset_index()


def _usable_axes(used: Frame, axes: Sequence[str]) -> tuple[list[str], str]:
    if len(used) < 3:
        return [], f"{len(used)} trainings can be compared: too few for a slope"
    found = axes_of(used, axes)
    return found, "" if found else "no condition varies among the trainings that can be compared: no slope"


def _named(facts: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in facts.items()) + ": " if facts else ""


def _cells(key: tuple[str, ...], used: Frame, axes: Sequence[str]) -> list[tuple[str, Frame]]:
    """All trainings; for the location also those in and beyond the flow regime, if phases are known and eta varies."""
    found = [(ALL, used)]
    if key[0] == LOCATION and "eta" in axes and (used["phase"] != "").any():
        found.append((FLOW_ONLY, used[used["phase"] == FLOW]))
        found.append((BEYOND_FLOW, used[used["phase"].isin(BEYOND)]))
    return found


def _slope_rows(
    found: Trainings, used: Frame, key: tuple[str, ...], axes: list[str], facts: dict[str, Any],
    level: float, seed: int, total: int,
) -> list[dict[str, Any]]:  # fmt: skip
    rows = []
    for cells, part in _cells(key, used, axes):
        values = found.values.loc[part.index, [key]].to_numpy().ravel()
        known = np.isfinite(values)
        y, part = values[known], part[known]
        varying = [a for a in axes if part[a].nunique() > 1]
        if len(y) < 3 or not varying:
            continue
        design = design_of(coordinates(part, varying), varying)
        # Interactions only if the grid has enough trainings: otherwise they widen the intervals of the slopes.
        if len(y) <= design.x.shape[1]:
            design = design_of(coordinates(part, varying), varying, interactions=False)
        seeds = part["seed"].to_numpy()
        interval, kind = fitted_slopes(design, y, seeds, level=level, seed=seed)
        common = {
            **facts, **dict(zip(NUMBER, key, strict=True)), "cells": cells, "interval": kind,
            "r2": explained(design.x, y)[1], "n": len(y), "n_seeds": len(np.unique(seeds)),
            "n_left_out": total - len(y),
        }  # fmt: skip
        fixed = fixed_conditions(part, facts)
        first = _is_first(found, key)
        for i, term in enumerate(design.terms):
            low, high = float(interval.low[i]), float(interval.high[i])
            theory = expected_slope(key[1], term, fixed, cells=cells, first=first) if key[0] == LOCATION else None
            notes = ["" if theory is None else theory.reason, _seed_note(kind, seeds, high)]
            rows.append({
                **common, "term": term, "slope": float(interval.estimate[i]), "stderr": float(interval.stderr[i]),
                "low": low, "high": high, "theory": np.nan if theory is None else theory.slope,
                "expected": "" if theory is None else theory.text, "verdict": agreement(theory, low, high),
                "note": "; ".join(filter(None, notes)),
            })  # fmt: skip
        rows += [{**common, "term": term, "slope": np.nan, "interval": "none", "expected": "", "verdict": "",
                  "note": f"{term} varies together with other terms: no separate slope"}
                 for term in design.dropped if ":" not in term]  # fmt: skip
    return rows


def _correlation_rows(
    found: Trainings, used: Frame, key: tuple[str, ...], axes: list[str], facts: dict[str, Any],
    level: float, seed: int, total: int,
) -> list[dict[str, Any]]:  # fmt: skip
    values = found.values.loc[used.index, [key]].to_numpy().ravel()
    known = np.isfinite(values)
    part = used[known]
    varying = [a for a in axes if part[a].nunique() > 1]
    if known.sum() <= len(varying) + 2 or not varying:
        return []
    columns = np.column_stack([values[known], coordinates(part, varying)])
    seeds = part["seed"].to_numpy()
    rho, kind = with_intervals(columns, seeds, level=level, seed=seed)
    common = {**facts, **dict(zip(NUMBER, key, strict=True)), "interval": kind, "n": len(part),
              "n_seeds": len(np.unique(seeds)), "n_left_out": total - len(part)}  # fmt: skip
    return [
        {**common, "axis": a, "rho": float(rho.estimate[i]), "low": float(rho.low[i]), "high": float(rho.high[i]),
         "note": "" if np.isfinite(rho.estimate[i]) else "flat, or its axes vary together"}
        for i, a in enumerate(varying)
    ]  # fmt: skip


def _seed_note(kind: str, seeds: np.ndarray, high: float) -> str:
    if kind == "seeds" and np.isnan(high):
        return LONE_SEED
    if kind == "residuals":
        return ONE_SEED
    if kind == "none":
        return "one seed, and as many terms as trainings: no interval"
    return TWO_SEEDS if len(np.unique(seeds)) == 2 else ""


def fixed_conditions(part: Frame, facts: dict[str, Any]) -> dict[str, Any]:
    """Conditions that are the same for all of these trainings, and the means of those that set their output scale."""
    names = ("architecture", "depth", "parameterization", "centered")
    same = {n: part[n].iloc[0] for n in names if n in part and part[n].nunique(dropna=False) == 1} | facts
    scale = {n: float(part[n].mean()) for n in ("r", "gamma0") if n in part and part[n].notna().all()}
    if "width" in part and part["width"].notna().all():
        scale["log_width"] = float(np.log10(part["width"].astype(float)).mean())
    return same | scale


def _is_first(found: Trainings, key: tuple[str, ...]) -> bool | None:
    """Whether a layer is the first one of its location, in the order of the table; None for the whole network."""
    if key[2] == "":
        return None
    return key[2] == next(k[2] for k in found.values.columns if k[:2] == key[:2] and k[2] != "")
