"""Comparisons at equal fit: nearest pairs, regression adjustment, and a statement where neither is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.comparison.relations.runs import KNOBS, Frame, Trainings, axes_of, check_known, coordinates, trainings_of
from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.statistics.covariate_balance import LOGARITHMIC, SAME_FIT, GroupBalance, balance, caliper, nearest_pairs
from geomfeat.statistics.group_difference import adjusted_difference, paired_difference, plain_difference, reading_of

# With fewer pairs than half of the smaller group, the pairs represent a minority of it.
LEAST_SHARE, LEAST_PAIRS = 0.5, 3
OTHER_SEED, TIE = 0.5, 0.01  # costs of a pair, in ranges of a condition: another seed, a whole caliper of fit
KINDS = ("plain", "paired", "adjusted")
STATS = ("", "_low", "_high")
MATCH_COLUMNS = ["measure", "quantity", "layer", "at", *(k + s for k in KINDS for s in STATS), "reading", "n_a", "n_b",
                 "n_pairs", "note"]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Matched(BaseResult):
    """Two levels of a condition, compared at equal fit.

    Attributes:
        table: one row per number; `plain`, `paired` and `adjusted` differences (second level minus first) with
            intervals, and `reading`: "at equal fit too", "only at equal fit", "explained by fit", "no difference",
            "pairs and adjustment disagree", "confounded", or "cannot tell".
        pairs: one row per pair: training_a, training_b, fit_a, fit_b. balance: one row per number that has to be equal,
            the fit first: standardized differences and overlap, before and after pairing.
        confounded_by: conditions that differ and cannot be balanced; empty if the comparison is fair. statement: the
            result as a sentence.
        notes: trainings that are missing from the comparison, with counts.

    `to_frame()`: `table`.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    balance: pd.DataFrame
    confounded_by: tuple[str, ...]
    statement: str
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """The differences, one row for each number."""
        return self.table.copy()

    def __str__(self) -> str:
        return f"Matched: {len(self.pairs)} pairs, {len(self.table)} numbers. {self.statement}"


def match(
    table: pd.DataFrame, condition: str, levels: Sequence[Any] | None = None, *, fit: str = "train_loss",
    measures: Sequence[str] | None = None, level: float = 0.9, seed: int = 0,
) -> Matched:  # fmt: skip
    """Compare every measure between two levels of a condition among trainings that fit equally well.

    Args:
        table: the tidy table of a sweep. condition: a column, e.g. "sigma". levels: the two values to compare; default
            its only two.
        fit: "train_loss" or "test_loss" (in decades), "train_accuracy" or "test_accuracy".
        measures: names; default all, and the location. level: of the intervals. seed: of the bootstrap over seeds.

    Pairs lie within a caliper of .2 standard deviations of the fit, or a difference that does not matter (.05 decades
    of loss, .01 of accuracy), and agree in text conditions and depth; among those, nearest in the other conditions. The
    adjustment is linear in fit and conditions. Diverged and failed trainings are counted and left out; trainings that
    did not reach their target loss are included.

    Raises BadInput for an unknown condition, level, fit or measure, and fewer than two trainings of a level.
    """
    found = trainings_of(table)
    frame, levels, notes = _two_levels(found, condition, levels, fit)
    if measures is not None:
        check_known(measures, {str(k) for k in found.values.columns.get_level_values(0)}, "measure")
    others = _others(found, frame, condition)
    near = caliper(*_sides(frame, "fit"), negligible=SAME_FIT[fit])
    a, b = _pairs(frame, [n for n in found.by if n != condition], others, near)
    balances = _balances(frame, a, b, fit, others, condition)
    confounded, statement = _judged(frame, balances, len(a), condition, levels, fit)
    rows = []
    for key in found.values.columns:
        if measures is None or key[0] in measures:
            values = found.values.loc[frame.index, [key]].to_numpy().ravel()
            names = ("measure", "quantity", "layer", "at")
            rows.append(
                dict(zip(names, key, strict=True))
                | _compared(frame.assign(value=values), a, b, others, fit in confounded, level, seed)
            )
    pairs = pd.DataFrame({
        "training_a": frame.index[a], "training_b": frame.index[b],
        f"{fit}_a": frame[fit].to_numpy()[a], f"{fit}_b": frame[fit].to_numpy()[b],
    })  # fmt: skip
    columns = pd.DataFrame(
        [{"name": n, "differs": d.difference, "standardized": d.standardized, "overlap": d.overlap,
          "differs_paired": np.nan if p is None else p.difference,
          "standardized_paired": np.nan if p is None else p.standardized} for n, (d, p) in balances.items()]
    )  # fmt: skip
    return Matched(pd.DataFrame(rows, columns=MATCH_COLUMNS), pairs, columns, confounded, statement, tuple(notes))


def _two_levels(
    found: Trainings, condition: str, levels: Sequence[Any] | None, fit: str
) -> tuple[Frame, tuple[Any, Any], list[str]]:
    """The trainings of both levels that can be compared, with columns `second` and `fit`; the levels; notes."""
    check_known([fit], SAME_FIT, "fit")
    known = [c for c in (*found.axes, *found.by) if c in found.frame]
    check_known([condition], known, "condition that varies")
    frame: Frame = found.frame
    values = list(dict.fromkeys(frame[condition].dropna()))
    asked = tuple(values if levels is None else levels)
    if len(asked) != 2:
        raise BadInput(f"levels={asked!r}: give two of the values of {condition}: {_listed(values)}")
    sides = [_equal(frame[condition], level) for level in asked]
    for level, side in zip(asked, sides, strict=True):
        if not side.any():
            raise BadInput(f"levels: no training has {condition}={level!r}; there are: {_listed(values)}")
    frame = frame.assign(second=sides[1])[sides[0] | sides[1]]
    total = len(frame)
    kept = frame["ended"] & frame[fit].notna()
    if fit in LOGARITHMIC:
        kept &= frame[fit] > 0
    frame = frame[kept]
    counts = [int((frame["second"] == s).sum()) for s in (False, True)]
    for level, count in zip(asked, counts, strict=True):
        if count < 2:
            raise BadInput(f"{condition}={level!r} has {count} trainings that ended with a {fit}: 2 are needed")
    left = total - len(frame)
    notes = [f"{left} of {total} trainings diverged, failed or have no {fit}: left out, not at random."] if left else []
    number = np.log10(frame[fit].astype(float)) if fit in LOGARITHMIC else frame[fit].astype(float)
    return frame.assign(fit=number), (asked[0], asked[1]), notes


def _equal(column: Frame, level: Any) -> Frame:
    if isinstance(level, int | float) and not isinstance(level, bool) and pd.api.types.is_numeric_dtype(column):
        return pd.Series(np.isclose(column.astype(float), level), index=column.index)
    return column == level


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def _others(found: Trainings, frame: Frame, condition: str) -> list[str]:
    """The axes other than the condition and other names of it."""
    same = {condition} | ({"gamma", *KNOBS} if condition in ("gamma", *KNOBS) else set())
    return [a for a in axes_of(frame, found.axes) if a not in same]


def _sides(frame: Frame, column: str) -> tuple[np.ndarray, np.ndarray]:
    second = frame["second"].to_numpy(bool)
    values = frame[column].to_numpy(float)
    return values[~second], values[second]


def _pairs(frame: Frame, same: list[str], others: list[str], near: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the frame of the first and second training of every pair."""
    second = frame["second"].to_numpy(bool)
    a, b = np.flatnonzero(~second), np.flatnonzero(second)
    fit, seeds = frame["fit"].to_numpy(float), frame["seed"].to_numpy()
    gap = np.abs(fit[a][:, None] - fit[b])
    allowed = gap <= near
    for name in same:
        values = frame[name].astype(str).to_numpy()
        allowed &= values[a][:, None] == values[b]
    distance = OTHER_SEED * (seeds[a][:, None] != seeds[b]) + TIE * gap / max(near, np.finfo(float).tiny)
    if others:
        x = coordinates(frame, others)
        x = x / np.ptp(x, axis=0)
        distance = distance + np.abs(x[a][:, None] - x[b]).sum(-1)
    i, j = nearest_pairs(distance, allowed)
    return a[i], b[j]


def _balances(
    frame: Frame, a: np.ndarray, b: np.ndarray, fit: str, others: list[str], condition: str
) -> dict[str, tuple[GroupBalance, GroupBalance | None]]:
    """(before, after pairing) for the fit and every other axis."""
    second = frame["second"].to_numpy(bool)
    columns = {fit: frame["fit"].to_numpy(float)}
    columns |= {n: coordinates(frame, [n])[:, 0] for n in others}
    found = {}
    for name, x in columns.items():
        slack = SAME_FIT.get(name, 0.0)
        after = balance(x[a], x[b], negligible=slack) if len(a) else None
        found[name] = (balance(x[~second], x[second], negligible=slack), after)
    return found


def _judged(
    frame: Frame, balances: dict[str, tuple[GroupBalance, GroupBalance | None]], n_pairs: int, condition: str,
    levels: tuple[Any, Any], fit: str,
) -> tuple[tuple[str, ...], str]:  # fmt: skip
    """What confounds the comparison, and the statement.

    Fair if the fit is already balanced, or if pairs that balance it are at least 3 and half of the smaller group; and
    if what is then compared is balanced in the other conditions too.
    """
    smaller = int(min((frame["second"] == s).sum() for s in (False, True)))
    before, after = balances[fit]
    unit = " decades" if fit in LOGARITHMIC else ""
    first, second = (_listed([level]) for level in levels)
    gap = f"{fit} differs by {before.difference:+.2g}{unit} between {condition} {first} and {second}"
    enough = n_pairs >= max(LEAST_PAIRS, LEAST_SHARE * smaller)
    if before.balanced:
        which, words, bad = 0, f"Equal fit: {gap}, within its variation. All trainings can be compared.", ()
    elif enough and after is not None and after.balanced:
        which, bad = 1, ()
        words = f"Unequal fit: {gap}. {n_pairs} pairs of equal fit can be compared, out of {smaller} at most."
    else:
        which, bad = 0, (fit,)
        words = (
            f"Confounded by fit: {gap}, {before.overlap:.0%} of the trainings overlap in it, and {n_pairs} pairs of "
            f"equal fit can be made out of {smaller} at most. A difference may be one of fit: train to a common {fit}."
        )
    off = [n for n, both in balances.items() if n != fit and (found := both[which]) is not None and not found.balanced]
    if off:
        words += f" What is compared also differs in {', '.join(off)}: a difference may be due to that."
    return (*bad, *off), words


def _compared(
    frame: Frame, a: np.ndarray, b: np.ndarray, others: list[str], confounded: bool, level: float, seed: int
) -> dict[str, Any]:
    y = frame["value"].to_numpy(float)
    known = np.isfinite(y)
    second = frame["second"].to_numpy(bool)
    n_a, n_b = int((known & ~second).sum()), int((known & second).sum())
    both = known[a] & known[b]
    row: dict[str, Any] = {"n_a": n_a, "n_b": n_b, "n_pairs": int(both.sum()), "note": ""}
    if min(n_a, n_b) < 2:
        return {**row, "reading": "cannot tell", "note": f"{n_a} and {n_b} trainings have this number: too few"}
    seeds = frame["seed"].to_numpy()
    kept = frame[known]
    columns = np.column_stack([kept["fit"].to_numpy(float), *([coordinates(kept, others)] if others else [])])
    differences = {
        "plain": plain_difference(y[known], second[known], seeds[known], level=level, seed=seed),
        "paired": paired_difference(y[b[both]] - y[a[both]], seeds[a[both]], level=level, seed=seed),
        "adjusted": adjusted_difference(y[known], second[known], columns, seeds[known], level=level, seed=seed),
    }
    for kind, found in differences.items():
        row |= dict(zip((kind + s for s in STATS), (found.estimate[0], found.low[0], found.high[0]), strict=True))
    if len(np.unique(seeds[known])) < 2:
        row["note"] = "one seed: intervals are those of independent trainings"
    return {**row, "reading": reading_of(*(differences[k] for k in KINDS), confounded=confounded)}
