"""The tidy table: one row per number. Everything downstream reads only this."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from geomfeat.errors import BadInput
from geomfeat.types import Estimate

IDENTITY = ("run", "seed", "at")
RESULT = (
    "layer", "layer_b", "measure", "quantity", "value", "stderr", "ok", "note",
    "n", "d", "dtype", "device", "seconds", "options", "version",
)  # fmt: skip
# What every table holds, with the kind of its values; see `geomfeat.storage.atomic.read_parquet`.
COLUMNS = dict.fromkeys([*IDENTITY, *RESULT], "any") | {
    **dict.fromkeys(("at", "layer", "measure", "quantity", "note"), "text"), "value": "number", "stderr": "number",
    "ok": "flag",
}  # fmt: skip
Row = dict[str, Any]


def row(quantity: str, estimate: Estimate, **facts: Any) -> Row:
    """One row of the table without its identity columns: an estimate and what it is of.

    Facts are the other RESULT columns; those left out are empty. NaN means "no standard error".
    """
    empty: Row = {"layer": "", "layer_b": "", "n": None, "d": None, "dtype": "", "device": "", "seconds": math.nan}
    number = {
        "quantity": quantity,
        "value": estimate.value,
        "stderr": math.nan if estimate.stderr is None else estimate.stderr,
        "ok": estimate.ok,
        "note": estimate.note,
    }
    return {**empty, "options": "{}", **facts, **number}


def are_rows(value: Any) -> bool:
    """Whether a value that was read back is a list of rows, as `row` makes them."""
    needed = {"quantity", "value", "stderr", "ok", "note", "at", "measure", "layer"}
    return isinstance(value, list) and all(isinstance(r, dict) and needed <= r.keys() for r in value)


def failed_rows(quantities: Iterable[str], note: str, **facts: Any) -> list[Row]:
    """A failure of a whole measure: one row for each number it would have given, never a missing row."""
    return [row(quantity, Estimate.failed(note), **facts) for quantity in quantities]


def options_text(options: Mapping[str, Any]) -> str:
    """Options as JSON text with sorted keys; what JSON cannot hold is written as its text."""
    return json.dumps(dict(options), sort_keys=True, default=str)


def checked_conditions(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions that can be columns: plain values under names that are not taken. 'seed' fills the seed column."""
    for name, value in conditions.items():
        if name in IDENTITY[::2] or name in RESULT:
            raise BadInput(f"conditions: {name!r} is a column of the table already: rename it, e.g. 'model_{name}'")
        if not isinstance(value, str | int | float | bool | None):
            raise BadInput(
                f"conditions[{name!r}] is a {type(value).__name__}; columns hold plain values: give a number or text"
            )
    return dict(conditions)


def table_of(rows: Iterable[Row], *, run: str, seed: int, conditions: Mapping[str, Any], version: str) -> pd.DataFrame:
    """The rows with their identity, conditions and version, as a frame with fixed columns and column types.

    >>> frame = table_of([row("x", Estimate(1.0), at="trained", measure="x")],
    ...                  run="a", seed=0, conditions={"lr": 0.1}, version="1")
    >>> list(frame.columns[:4]), float(frame.value[0])
    (['run', 'seed', 'at', 'lr'], 1.0)
    """
    named = {k: v for k, v in conditions.items() if k != "seed"}
    fixed = {"run": run, "seed": conditions.get("seed", seed), **named, "version": version}
    columns = [*IDENTITY, *named, *RESULT]
    frame = pd.DataFrame([{**r, **fixed} for r in rows], columns=columns)
    kinds = {"value": "float64", "stderr": "float64", "seconds": "float64", "ok": "bool", "n": "Int64", "d": "Int64"}
    texts = {"run", "at", "layer", "layer_b", "measure", "quantity", "note", "dtype", "device", "options", "version"}
    return frame.astype({**kinds, **dict.fromkeys(texts, "str")})
