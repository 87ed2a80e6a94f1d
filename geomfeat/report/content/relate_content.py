"""What `relate` and `match` found, as tables and sentences of a page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geomfeat.comparison.relations._relate import ALL, Related
from geomfeat.comparison.relations.equal_fit import Matched, match
from geomfeat.comparison.relations.runs import LINEAR, Frame, Trainings
from geomfeat.errors import BadInput
from geomfeat.report.content.components import Cell, Table, grid, number_cell, text_cell
from geomfeat.report.content.number_format import number
from geomfeat.report.content.sentences import named
from geomfeat.report.content.sweep_charts import LOCATION, PLACES, axis_name, label_of, varying

FOLLOWS = ("richness", "fit", "both", "neither")


@dataclass(frozen=True, eq=False)
class AtEqualFit:
    """One comparison of two levels of a condition: what they are, what came of it, or why it could not be made."""

    title: str
    found: Matched | None
    problem: str


def answer(related: Related) -> list[str]:
    """Sentences: measured and predicted slopes, the learning rate's, and what follows richness or fit."""
    lines = []
    rows = _located(related, whole=True)
    disputed = {
        (_group(related, r), r["term"]) for r in rows if r["quantity"] == "richness" and r["verdict"] == "differs"
    }
    for row in rows:
        if not row["expected"] or row["quantity"] not in PLACES:
            continue
        if (
            row["quantity"] == "richness"
            and row["cells"] != ALL
            and (_group(related, row), row["term"]) not in disputed
        ):
            continue  # the predicted slope of R is the same in all phases: only a phase that differs is reported
        of = {"richness": "Richness R", "excess": "Excess E"}.get(row["quantity"], row["quantity"])
        where = "" if row["cells"] == ALL else f" ({row['cells']})"
        verdict = {"agrees": "this agrees", "differs": "this differs", "": "no interval",
                   "too wide to tell": "the interval is too wide to decide"}[row["verdict"]]  # fmt: skip
        lines.append(
            f"{_group(related, row)}{of} changes by {_interval(row)} decades per {_step(row['term'])}"
            f"{where}; theory predicts {row['expected'].replace('-', '−')}: {verdict}."
        )
    follow = [r for r in related.follow.to_dict("records") if r["measure"] != LOCATION]
    for word in FOLLOWS:
        names = list(dict.fromkeys(label_of((r["measure"], r["quantity"], r["layer"])) for r in follow
                                   if r["follows"] == word))  # fmt: skip
        if names:
            of = {"both": "richness and fit", "neither": "neither richness nor fit"}.get(word, word)
            rest = f" and {len(names) - 8} more" if len(names) > 8 else ""
            lines.append(f"Follow {of}, the other held fixed: {'; '.join(names[:8])}{rest}.")
    unknown = sum(r["follows"] == "cannot tell" for r in follow)
    if unknown:
        lines.append(
            f"For {unknown} of {len(follow)} other numbers it is undecided what they follow: with this few trainings "
            "or seeds, the intervals are too wide."
        )
    return lines


def theory_tables(related: Related) -> tuple[list[Table], list[str]]:
    """(Slopes that theory names, of the network and of its layers; theory's reasons and what limits the intervals)."""
    rows = [r for r in _located(related, whole=False) if r["expected"]]
    parts = [[r for r in rows if (r["layer"] == "") is whole] for whole in (True, False)]
    reasons = dict.fromkeys(part for r in rows for part in r["note"].split("; ") if part)
    return [_slopes(related, part, notes=False) for part in parts if part], list(reasons)


def slopes_table(related: Related, most: int) -> tuple[Table, int]:
    """(All slopes, those of the location first, `most` of them at most; how many there are)."""
    rows = related.slopes.to_dict("records")
    rows.sort(key=lambda r: (r["measure"] != LOCATION, r["layer"] != ""))
    return _slopes(related, rows[:most]), len(rows)


def _located(related: Related, *, whole: bool) -> list[dict[str, Any]]:
    slopes: Frame = related.slopes
    rows = slopes[slopes["measure"] == LOCATION]
    return (rows[rows["layer"] == ""] if whole else rows).to_dict("records")


def _slopes(related: Related, rows: Sequence[dict[str, Any]], *, notes: bool = True) -> Table:
    made = []
    for r in rows:
        mark = "failed" if r["verdict"] == "differs" else ""
        cells = [text_cell(r[b]) for b in related.by]
        cells += [
            text_cell(f"{r['term']} (no log)" if r["term"] in LINEAR else r["term"]), text_cell(r["cells"]),
            _between(r["slope"], r["low"], r["high"]),
            text_cell(str(r["expected"]).replace("-", "−")), text_cell(r["verdict"], mark), number_cell(r["r2"]),
            text_cell(r["n"]), text_cell(r["n_seeds"]), text_cell(r["n_left_out"]),
            *([text_cell(r["note"])] if notes else []),
        ]  # fmt: skip
        made.append((label_of((r["measure"], r["quantity"], r["layer"])), cells))
    slope = f"slope [{100 * related.level:.0f} %]"
    head = ("number", *map(axis_name, related.by), "on log10 of", "trainings", slope, "theory", "verdict",
            "r²", "n", "seeds", "left out", *(["note"] if notes else []))  # fmt: skip
    return grid(head, made)


def follow_table(related: Related) -> tuple[Table | None, list[str]]:
    """(Which number follows richness, fit, both or neither, with the correlations; what limits them)."""
    rows = [r for r in related.follow.to_dict("records") if not (r["measure"] == LOCATION and r["quantity"] in
            ("low", "high"))]  # fmt: skip
    order = [*FOLLOWS, "cannot tell"]
    rows.sort(key=lambda r: (r["measure"] == LOCATION, order.index(r["follows"])))
    made = []
    for r in rows:
        cells = [text_cell(r[b]) for b in related.by]
        cells += [text_cell(r["follows"], "", r["note"])]
        cells += [_between(r.get(f"rho_{k}"), r.get(f"low_{k}"), r.get(f"high_{k}"))
                  for k in ("richness", "train_loss", "train_accuracy")]  # fmt: skip
        made.append((label_of((r["measure"], r["quantity"], r["layer"])), [*cells, text_cell(r["n"])]))
    head = ("number", *map(axis_name, related.by), "follows", "ρ with richness, fit fixed",
            "ρ with train loss, richness fixed", "ρ with train accuracy, richness fixed", "n")  # fmt: skip
    notes = Counter(r["note"] for r in rows if r["note"])
    return grid(head, made) if made else None, [_of_how_many(note, n, len(rows)) for note, n in notes.items()]


def _of_how_many(note: str, count: int, total: int) -> str:
    return f"{note[:1].upper()}{note[1:]}{f' ({count} of {total} numbers)' if count < total else ''}."


def comparisons(found: Trainings, table: Frame, level: float, seed: int) -> list[AtEqualFit]:
    """At equal fit: the lowest with the highest value of every axis, and the two values of a condition that has two."""
    out = []
    for name in (*varying(found), *(b for b in found.by if not b.startswith("has_"))):
        column = found.frame.loc[found.frame["used"], name].dropna()
        enough = column.value_counts()
        values = sorted(enough[enough > 1].index) if name in found.axes else list(enough[enough > 1].index)
        if len(values) < 2 or (name in found.by and len(values) > 2):
            continue
        levels = (values[0], values[-1])
        shown = [number(v) if isinstance(v, float) else str(v) for v in levels]
        title = f"{axis_name(name)} {shown[0]} and {shown[1]}"
        try:
            out.append(AtEqualFit(title, match(table, name, levels, level=level, seed=seed), ""))
        except BadInput as problem:
            out.append(AtEqualFit(title, None, str(problem)))
    return out


def match_table(found: Matched) -> Table:
    """Differences: plain, between pairs of equal fit, and adjusted for fit, with the reading."""
    rows = found.table.to_dict("records")
    rows.sort(key=lambda r: r["measure"] != LOCATION)
    made = [
        (label_of((r["measure"], r["quantity"], r["layer"])),
         [*(_between(r.get(k), r.get(f"{k}_low"), r.get(f"{k}_high")) for k in ("plain", "paired", "adjusted")),
          text_cell(r["reading"]), text_cell(r["n_a"]), text_cell(r["n_b"]), text_cell(r["n_pairs"]),
          text_cell(r["note"])])
        for r in rows
    ]  # fmt: skip
    head = ("number", "difference", "between pairs of equal fit", "adjusted for fit", "reading", "n first", "n second",
            "pairs", "note")  # fmt: skip
    return grid(head, made)


def _step(term: str) -> str:
    """What a slope is the change for.

    >>> _step("width"), _step("r")
    ('decade of width', '1 of r')
    """
    return f"1 of {term}" if term in LINEAR else f"decade of {axis_name(term)}"


def _group(related: Related, row: dict[str, Any]) -> str:
    return named({b: row[b] for b in related.by}) + ": " if related.by else ""


def _interval(row: dict[str, Any]) -> str:
    return _between(row["slope"], row["low"], row["high"]).shown


def _between(value: Any, low: Any, high: Any) -> Cell:
    if value is None or not math.isfinite(value):
        return number_cell(None)
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return Cell(number(value), float(value))
    half = (high - low) / 2
    if not 1e-4 < half < 1e4:
        return Cell(f"{number(value)} [{number(low)}, {number(high)}]", float(value))
    # Two digits of the interval's half-width: more digits mean nothing.
    decimals = max(1 - math.floor(math.log10(half)), 0)
    return Cell(f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]", float(value))
