"""Paired differences of numbers over time: between bins, between areas, between two courses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.capacity_floor import at_floor
from geomfeat.statistics.group_errors import LeftOut
from geomfeat.statistics.paired_numbers import combined, error_of

# A row of the table, and what its error is made of.
Numbered = tuple[dict[str, Any], LeftOut | None]
KEY = ("time", "area", "area_b", "condition", "condition_b", "measure", "quantity")
ERRORS_OVER = "paired error over the groups and draws that both share"
NO_ERROR = "no error: one of the numbers has none over groups (runs, sessions, subjects)"


def from_other(rows: Sequence[Numbered], others: Sequence[Numbered]) -> list[Numbered]:
    """Each number less the one of the same name and time in another course."""
    there = {_key(row): (row, left) for row, left in others}
    found = [_less(one, [there[_key(one[0])]]) for one in rows if _key(one[0]) in there]
    if not found:
        raise BadInput("difference: no number of the other course has the same time, area, conditions and measure")
    return found


def of_areas(rows: Sequence[Numbered], areas: tuple[str, str]) -> list[Numbered]:
    """Numbers of one area less those of another, which alone differs between them."""
    if len(areas) != 2 or areas[0] == areas[1]:
        raise BadInput(f"areas={areas!r}: name two different areas")
    first, second = map(str, areas)
    found = []
    for column in ("area", "area_b"):
        there = {_key(row, **{column: first}): (row, left) for row, left in rows if row[column] == second}
        for one in rows:
            if one[0][column] == first and _key(one[0]) in there:
                row, left = _less(one, [there[_key(one[0])]])
                found.append(({**row, column: f"{first} minus {second}"}, left))
    if not found:
        names = ", ".join(dict.fromkeys(row[c] for row, _ in rows for c in ("area", "area_b") if row[c]))
        raise BadInput(f"areas={areas!r}: no number of both areas is there; there are {names}")
    return found


def from_baseline(rows: Sequence[Numbered], baseline: float | tuple[float, float]) -> list[Numbered]:
    """Each bin less one, or less the mean of several."""
    times = sorted({row["time"] for row, _ in rows})
    step = min(np.diff(times), default=1.0)
    if isinstance(baseline, tuple):
        low, high = baseline
        wanted = [t for t in times if low - 1e-6 * step <= t < high - 1e-6 * step]
    else:
        wanted = [t for t in times if abs(t - baseline) <= step / 2][:1]
    if not wanted:
        raise BadInput(f"baseline={baseline}: no bin is there; they are from {times[0]:g} to {times[-1]:g} s")
    there = {_key(row): (row, left) for row, left in rows}
    return [_less(one, [there[_key(one[0], time=t)] for t in wanted]) for one in rows]


def _less(one: Numbered, others: Sequence[Numbered]) -> Numbered:
    """A number less the mean of others."""
    row, _ = one
    every = [one, *others]
    bad = next((r for r, _ in every if not r["ok"]), None) or next((r for r, _ in every if at_floor(r["note"])), None)
    if bad is not None:
        failed = {"value": math.nan, "stderr": math.nan, "ok": False, "note": f"no difference: {bad['note']}"}
        return {**row, **failed}, None
    weights = [1.0, *[-1 / len(others)] * len(others)]
    value = sum(w * r["value"] for w, (r, _) in zip(weights, every, strict=True))
    parts = [left for _, left in every if left is not None]
    if len(parts) < len(every):
        return {**row, "value": value, "stderr": math.nan, "note": NO_ERROR}, None
    number = combined(parts, weights)
    return {**row, "value": value, "stderr": error_of(number), "note": ERRORS_OVER}, number


def _key(row: dict[str, Any], **changed: Any) -> tuple[Any, ...]:
    return tuple({**row, **changed}[name] for name in KEY)
