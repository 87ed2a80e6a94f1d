"""Arrays by name as a recording: .npz, .npy with labels, and what other formats reduce to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.recordings.readers.field_names import USUAL, found_name, named_classes, required, turned
from geomfeat.recordings.readers.raw_recording import RawRecording
from geomfeat.recordings.trial_labels import TRIAL_FIELDS, UNIT_FIELDS
from geomfeat.storage.npz_files import array_names, read_arrays

TAKEN = ("x", *TRIAL_FIELDS, *UNIT_FIELDS, "time", "classes", "dims")
WITH_LABELS = (*TAKEN, "labels")
CLASSES = ("classes", "names", "class_names", "condition_names", "category_names")


class LazyArrays(Mapping[str, Any]):
    """Arrays of a file by name, each read when it is asked for."""

    def __init__(self, names: list[str], read: Any) -> None:
        self._names, self._read = names, read

    def __getitem__(self, name: str) -> Any:
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def from_npz(path: Path, given: Mapping[str, Any]) -> RawRecording:
    """Arrays of an .npz, without pickle; only those that are needed are read."""
    arrays = LazyArrays(array_names(path), lambda name: read_arrays(path, [name])[name])
    return from_arrays(arrays, given, str(path), path.stem)


def from_npy(path: Path, given: Mapping[str, Any]) -> RawRecording:
    """One array of responses; labels are given as arrays, or as columns of the table labels=."""
    try:
        x = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as cause:
        remedy = "save plain numbers with np.save(file, array)" if "pickle" in str(cause) else "copy it again"
        raise BadInput(f"{str(path)!r} cannot be read as one array of numbers ({cause}): {remedy}") from cause
    return with_label_table(x, given, str(path), path.stem)


def with_label_table(
    x: np.ndarray, given: Mapping[str, Any], where: str, name: str, more: Mapping[str, Any] | None = None
) -> RawRecording:
    """x with the columns of a table that has a row for each trial, given as labels= (a path, frame or mapping)."""
    columns: Mapping[str, Any] = {}
    rest = {field: value for field, value in given.items() if field != "labels"}
    if "labels" in given:
        from geomfeat.recordings.readers.tables import frame_of

        frame = frame_of(given["labels"])
        if len(frame) != len(x):
            raise BadInput(f"labels= has {len(frame)} rows, but {where} has {len(x)} trials: give a row for each trial")
        columns = {str(column): frame[column].to_numpy() for column in frame.columns if str(column) != "x"}
    elif isinstance(given.get("condition"), str):
        raise BadInput(
            f"condition={given['condition']!r} names a column, but {where} is one array: give labels=TABLE with such a "
            "column, or the labels themselves"
        )
    elif "condition" not in given:
        raise BadInput(f"{where} holds responses alone: give condition=, one for each trial, or labels=TABLE")
    arrays = {"x": x, **columns, **(more or {})}
    return from_arrays(arrays, rest, where if not columns else f"{where} with its labels", name)


def from_arrays(arrays: Mapping[str, Any], given: Mapping[str, Any], where: str, name: str) -> RawRecording:
    """A recording of named arrays. Fields are names or arrays; those that are not given are found by usual names.

    Raises BadInput where x or condition is not found, for names that are not there, and for x that is no array of
    numbers.
    """
    notes: list[str] = []
    used: dict[str, str] = {}
    x = given.get("x")
    if x is None or isinstance(x, str):
        used["x"] = required("x", x, arrays, where)
        x = arrays[used["x"]]
    x = numbers(x, f"{used.get('x', 'x')!r} of {where}")
    x = turned(x, given.get("dims"), where)
    if x.ndim not in (2, 3):
        raise BadInput(f"x of {where} has shape {x.shape}: it must be (trials, units) or (trials, units, time)")
    sizes: dict[str, int] = {field: x.shape[field in UNIT_FIELDS] for field in (*TRIAL_FIELDS, *UNIT_FIELDS)}
    labels: dict[str, Any] = {}
    others = [one for one in arrays if one != used.get("x")]
    for field, n in sizes.items():
        asked = given.get(field)
        if asked is not None and not isinstance(asked, str):
            labels[field] = asked
            continue
        found = found_name(field, asked, [one for one in others if one not in used.values()], where)
        if found is None:
            continue
        value = along(arrays[found], n)
        if value is None and asked is None and field != "condition":
            notes.append(f"{found!r} of {where} was not read as {field}: it has not one entry for each of the {n}")
            continue
        labels[field], used[field] = arrays[found] if value is None else value, found
    if "condition" not in labels:
        required("condition", None, others, where)
    classes = given.get("classes")
    asked = classes if isinstance(classes, str) else None
    key = asked if asked is not None else next((one for one in CLASSES if one in others), None)
    if classes is None or asked is not None:
        classes = None if key is None or key in used.values() else arrays[key]
        if asked is None and not _are_codes(labels["condition"], classes):
            classes = None
    labels["condition"] = named_classes(labels["condition"], classes)
    time = _time(arrays, given, others, where, x.ndim)
    guessed = [f"{field} is {found!r}" for field, found in used.items() if found != field and given.get(field) is None]
    if guessed:
        notes.append(f"by their usual names, {', '.join(guessed)}")
    return RawRecording(x, labels, time, name, tuple(notes))


def numbers(x: Any, where: str) -> np.ndarray:
    """An array of real numbers; NaN where a masked or nullable array has no value."""
    array = np.asarray(np.ma.filled(x.astype(np.float64), np.nan) if isinstance(x, np.ma.MaskedArray) else x)
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"{array.dtype} values"
        raise BadInput(f"{where} holds {kind}: give an array of real numbers")
    return array


def along(values: Any, n: int) -> Any | None:
    """(n,) of a vector, a row or column, or a single value that holds for all; None for other lengths."""
    array = np.asarray(values) if not isinstance(values, list) else np.array(values, dtype=object)
    if array.ndim == 0:
        return np.repeat(array, n)
    flat = array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array
    return flat if flat.shape == (n,) else None


def _are_codes(condition: Any, classes: Any) -> bool:
    """Whether whole numbers can be indices into the names of classes."""
    if classes is None:
        return False
    values = np.asarray(condition)
    words = np.asarray(classes).ravel()
    return (
        values.dtype.kind in "iu"
        and words.dtype.kind in "USO"
        and int(values.min()) >= 0
        and int(values.max()) < len(words)
    )


def _time(arrays: Mapping[str, Any], given: Mapping[str, Any], others: list[str], where: str, axes: int) -> Any:
    asked = given.get("time")
    if asked is not None and not isinstance(asked, str):
        return asked
    if axes == 2 and asked is None:
        return None
    found = found_name("time", asked, others, where)
    if found is None:
        raise BadInput(
            f"x of {where} has a time axis: name its time stamps in seconds by time= (usual names: "
            f"{', '.join(USUAL['time'])})"
        )
    return np.asarray(arrays[found], dtype=np.float64).reshape(-1)
