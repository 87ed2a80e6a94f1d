"""Tables of pandas, .csv, .tsv and .parquet: long (a row for each value) or wide (a row for each trial)."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.errors import BadInput, near
from geomfeat.recordings.readers.field_names import found_name, required
from geomfeat.recordings.readers.named_arrays import from_arrays
from geomfeat.recordings.readers.raw_recording import RawRecording
from geomfeat.recordings.trial_labels import TRIAL_FIELDS
from geomfeat.storage.owned_files import as_path

LONG = (*TRIAL_FIELDS, "area", "unit", "time", "trial", "value")
ABOVE = ("subject", "session", "run")  # trials may be numbered anew in each
SUFFIXES = (".csv", ".tsv", ".parquet")


def frame_of(source: Any) -> pd.DataFrame:
    """A frame of a path, a frame, or a mapping of columns; BadInput for a file that is missing or damaged."""
    if isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, Mapping):
        return pd.DataFrame(dict(source))
    path = as_path(source)
    if path.suffix not in SUFFIXES or not path.is_file():
        why = "no such file" if path.suffix in SUFFIXES else f"none of {', '.join(SUFFIXES)}"
        raise BadInput(f"{str(path)!r}: {why}")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    except (OSError, ValueError, UnicodeDecodeError) as cause:
        raise BadInput(
            f"{str(path)!r} cannot be read as {path.suffix}: {' '.join(str(cause).split())[:200]}"
        ) from cause


def from_table(frame: pd.DataFrame, given: Mapping[str, Any], where: str, name: str = "") -> RawRecording:
    """A long table (columns trial, unit, value, condition, and time, run, ...) or a wide one (unit= its columns).

    Rows of a long table may be in any order; values that are not there are NaN. Raises BadInput for columns that are
    not there, a trial with two conditions, and a value that comes twice.
    """
    if not len(frame):
        raise BadInput(f"{where} has no rows")
    columns = [str(column) for column in frame.columns]
    frame = frame.set_axis(columns, axis=1)
    if columns and len(set(columns)) < len(columns):
        raise BadInput(f"{where} has two columns of one name: rename them")
    unit = given.get("unit")
    if _names_columns(unit):
        return _wide(frame, unit, given, where, name)
    if found_name("value", given.get("value"), columns, where) is None:
        raise BadInput(
            f"{where} has no column of values: name it by value=, of a long table (a row for each trial and unit), or "
            f"name the columns of the units by unit=, of a wide one (a row for each trial): a list, or a pattern as "
            f"'unit_*'. Columns: {', '.join(columns[:20])}"
        )
    return _long(frame, given, where, name)


def _names_columns(unit: Any) -> bool:
    return (isinstance(unit, str) and any(c in unit for c in "*?[")) or (
        unit is not None and not isinstance(unit, str) and isinstance(unit, Sequence | np.ndarray | pd.Index)
    )


def _wide(frame: pd.DataFrame, unit: Any, given: Mapping[str, Any], where: str, name: str) -> RawRecording:
    if isinstance(unit, str):
        chosen = [column for column in frame.columns if fnmatch.fnmatchcase(column, unit)]
        if not chosen:
            raise BadInput(f"unit={unit!r} matches no column of {where}; near: {near(unit, frame.columns)}")
    else:
        chosen = list(map(str, unit))
        lost = [column for column in chosen if column not in frame.columns]
        if lost:
            raise BadInput(f"{where} has no column {lost[0]!r} for unit=; near: {near(lost[0], frame.columns)}")
    odd = [column for column in chosen if not pd.api.types.is_numeric_dtype(frame[column])]
    if odd:
        raise BadInput(f"column {odd[0]!r} of {where} holds {frame[odd[0]].dtype}, not numbers")
    x = frame[chosen].to_numpy()
    if x.dtype.kind == "O":
        x = frame[chosen].to_numpy(dtype=np.float64, na_value=np.nan)
    arrays = {column: frame[column].to_numpy() for column in frame.columns if column not in chosen}
    rest = {field: value for field, value in given.items() if field not in ("unit", "value", "trial")}
    return from_arrays({"x": x, **arrays}, {"x": "x", **rest, "unit": chosen}, where, name)


def _long(frame: pd.DataFrame, given: Mapping[str, Any], where: str, name: str) -> RawRecording:
    used = {field: required(field, given.get(field), frame.columns, where) for field in ("trial", "unit", "condition")}
    used["value"] = required("value", given.get("value"), frame.columns, where)
    for field in (*ABOVE, "area", "time"):
        found = found_name(field, given.get(field), [c for c in frame.columns if c not in used.values()], where)
        if found is not None:
            used[field] = found
    data = pd.DataFrame({field: frame[column].to_numpy() for field, column in used.items()})
    if not pd.api.types.is_numeric_dtype(frame[used["value"]]):
        raise BadInput(f"column {used['value']!r} of {where} holds {frame[used['value']].dtype}, not numbers")
    for field in data.columns.drop("value"):
        lost = int(np.asarray(pd.isna(data[field])).sum())
        if lost:
            raise BadInput(
                f"column {used[field]!r} of {where} lacks {lost} of {len(data)} entries: fill or drop these rows"
            )
    trial = _codes(data, "trial", [field for field in ABOVE if field in data])
    unit = _codes(data, "unit", [field for field in ("area",) if field in data])
    times, place = np.unique(data["time"], return_inverse=True) if "time" in data else (None, np.zeros(len(data), int))
    shape = (int(trial.max()) + 1, int(unit.max()) + 1, 1 if times is None else len(times))
    flat = np.ravel_multi_index((trial, unit, place), shape)
    twice = len(flat) - len(np.unique(flat))
    if twice:
        raise BadInput(
            f"{where} has {twice} values more than once for one trial, unit{' and time' if times is not None else ''}: "
            "name what tells them apart (run=, session=, area=), or average them first"
        )
    x = np.full(shape, np.nan)
    x.reshape(-1)[flat] = frame[used["value"]].to_numpy(dtype=np.float64, na_value=np.nan)
    first_trial, first_unit = (np.unique(code, return_index=True)[1] for code in (trial, unit))
    labels: dict[str, Any] = {"unit": data["unit"].to_numpy()[first_unit]}
    for field in TRIAL_FIELDS:
        if field in data:
            _require_one(data[field], trial, f"trials of {where} have two or more {field}s")
            labels[field] = data[field].to_numpy()[first_trial]
    if "area" in data:
        labels["area"] = data["area"].to_numpy()[first_unit]
    guessed = [f"{field} is {c!r}" for field, c in used.items() if c != field and given.get(field) is None]
    notes = [f"by their usual names, {', '.join(guessed)}"] if guessed else []
    return RawRecording(x if times is not None else x[:, :, 0], labels, times, name, tuple(notes))


def _codes(data: pd.DataFrame, field: str, above: Sequence[str]) -> np.ndarray:
    """Numbers 0, 1, ... of trials or units; those that are numbered anew in each run, ..., are distinguished by it."""
    if above:
        several = data.groupby(field, observed=True)[list(above)].nunique().to_numpy().max() > 1
        if several:
            return data.groupby([*above, field], observed=True).ngroup().to_numpy()
    return np.unique(data[field].to_numpy(), return_inverse=True)[1]


def _require_one(values: Any, code: np.ndarray, what: str) -> None:
    counts = values.groupby(code).nunique()
    several = int((counts.to_numpy() > 1).sum())
    if several:
        raise BadInput(
            f"{several} of {len(counts)} {what}: name what numbers trials anew (run=, session=), or another trial="
        )


def from_table_file(path: Path, given: Mapping[str, Any]) -> RawRecording:
    """A .csv, .tsv or .parquet."""
    return from_table(frame_of(path), given, str(path), path.stem)
