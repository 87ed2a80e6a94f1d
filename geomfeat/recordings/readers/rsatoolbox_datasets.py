"""rsatoolbox's Dataset and TemporalDataset: the objects, and their HDF5 files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.recordings.readers.field_names import found_name, required
from geomfeat.recordings.readers.hdf5_files import opened, values_of
from geomfeat.recordings.readers.named_arrays import numbers
from geomfeat.recordings.readers.raw_recording import RawRecording
from geomfeat.recordings.trial_labels import TRIAL_FIELDS, UNIT_FIELDS

TAKEN = (*TRIAL_FIELDS, *UNIT_FIELDS, "time")
PARTS = ("descriptors", "obs_descriptors", "channel_descriptors", "time_descriptors")


def is_dataset(source: Any) -> bool:
    """Whether an object has what a Dataset of rsatoolbox has."""
    return all(hasattr(source, name) for name in ("measurements", *PARTS[:3]))


def is_dataset_file(file: Any) -> bool:
    """Whether an open HDF5 file is a Dataset that rsatoolbox saved."""
    return "measurements" in file and "obs_descriptors" in file


def from_dataset_file(path: Path, given: Mapping[str, Any]) -> RawRecording:
    """A Dataset or TemporalDataset as `dataset.save(file, file_type="hdf5")` writes it."""
    with opened(path) as file:
        parts = {
            part: {name: values_of(item) for name, item in file[part].items()} | dict(file[part].attrs)
            for part in PARTS if part in file
        }  # fmt: skip
        x = values_of(file["measurements"])
    return _raw(x, parts, given, str(path), path.stem)


def from_dataset(source: Any, given: Mapping[str, Any]) -> RawRecording:
    """A Dataset or TemporalDataset."""
    parts = {part: dict(getattr(source, part, None) or {}) for part in PARTS}
    return _raw(source.measurements, parts, given, f"the {type(source).__name__}", "")


def _raw(x: Any, parts: Mapping[str, Any], given: Mapping[str, Any], where: str, name: str) -> RawRecording:
    x = numbers(x, f"measurements of {where}")
    whole = parts.get("descriptors", {})
    labels: dict[str, Any] = {}
    used: dict[str, str] = {}
    for fields, part, n in (
        (TRIAL_FIELDS, "obs_descriptors", x.shape[0]),
        (UNIT_FIELDS, "channel_descriptors", x.shape[1]),
    ):
        known = {str(k): np.asarray(v) for k, v in parts.get(part, {}).items()}
        for field in fields:
            asked = given.get(field)
            if asked is not None and not isinstance(asked, str):
                labels[field] = asked
                continue
            if asked is not None and asked not in known and asked in whole:
                labels[field] = [whole[asked]] * n
                continue
            find = required if field == "condition" else found_name
            found = find(field, asked, known, f"{part} of {where}")
            if found is not None:
                labels[field], used[field] = known[found], found
            elif field in whole:  # one session, or one subject, for the whole data set
                labels[field] = [whole[field]] * n
    time = None
    if x.ndim == 3:
        times = parts.get("time_descriptors", {})
        asked = given.get("time")
        named = asked is None or isinstance(asked, str)
        time = np.asarray(times[required("time", asked, times, f"time_descriptors of {where}")]) if named else asked
    elif "time" in given:
        raise BadInput(f"time= is given, but {where} has no time axis")
    guessed = [f"{field} is {found!r}" for field, found in used.items() if found != field and given.get(field) is None]
    return RawRecording(
        x, labels, time, name, (f"by their usual names, {', '.join(guessed)}",) if guessed else ()
    )  # fmt: skip
