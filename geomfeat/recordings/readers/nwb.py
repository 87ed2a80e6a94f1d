"""NWB files: spike times of units, counted around an event of each trial. Read by h5py; pynwb is not needed.

Layout: NWB 2 (Rübel et al. 2022, eLife 11, e78362): /units with spike_times and the ends of each unit's part in
spike_times_index; /intervals/trials with a value in each column for each trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.recordings.readers.field_names import found_name, required
from geomfeat.recordings.readers.hdf5_files import opened, values_of
from geomfeat.recordings.readers.raw_recording import RawRecording
from geomfeat.recordings.trial_labels import TRIAL_FIELDS, UNIT_FIELDS

TAKEN = (*TRIAL_FIELDS, *UNIT_FIELDS, "event", "window", "bin")
UNITS, TRIALS, ELECTRODES = "units", "intervals/trials", "general/extracellular_ephys/electrodes"
WHOLE = {"session": "general/session_id", "subject": "general/subject/subject_id"}
NOT_LABELS = ("start_time", "stop_time", "timeseries", "tags", "id")
ON_EDGE = 1e-6  # share of a bin


def is_nwb(file: Any) -> bool:
    """Whether an open HDF5 file says that it is NWB."""
    return "nwb_version" in file.attrs


def from_nwb(path: Path, given: Mapping[str, Any]) -> RawRecording:
    """Spike counts of every unit in bins of a window around an event of each trial.

    A trial without its event, or whose window is outside of a unit's observation intervals, has NaN there. Raises
    BadInput for files without units, spike times or trials, columns that are not there, and windows without bins.
    """
    with opened(path) as file:
        where = str(path)
        for part, what in ((UNITS, "units"), (f"{UNITS}/spike_times", "spike times"), (TRIALS, "table of trials")):
            if part not in file:
                raise BadInput(f"{where} has no {what} (/{part}): units with spike times and trials are read")
        trials = _columns(file[TRIALS])
        event = trials[found_name("event", given.get("event", "start_time"), trials, f"{where}, /{TRIALS}") or ""]
        edges, centres = _edges(given.get("window"), given.get("bin"))
        units = file[UNITS]
        x = _counts(units, np.asarray(event, dtype=np.float64), edges)
        labels = _trial_labels(file, trials, given, where) | _unit_labels(file, given, where)
    notes = [f"spike counts from {edges[0]:g} to {edges[-1]:g} s around {given.get('event', 'start_time')!r}"]
    if len(centres) > 1:
        notes[0] += f", in bins of {edges[1] - edges[0]:g} s"
        return RawRecording(x, labels, centres, path.stem, tuple(notes))
    return RawRecording(x[:, :, 0], labels, None, path.stem, tuple(notes))


def _edges(window: Any, width: Any) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins relative to the event, and their centres."""
    try:
        first, last = (float(end) for end in window)
    except (TypeError, ValueError) as cause:
        raise BadInput(f"window={window!r}: give (from, to) in seconds around the event, such as (0, 0.5)") from cause
    if not last > first:
        raise BadInput(f"window=({first:g}, {last:g}) is empty: it ends before it begins")
    width = last - first if width is None else float(width)
    count = round((last - first) / width) if width > 0 else 0
    if count < 1 or abs(count * width - (last - first)) > ON_EDGE * width:
        raise BadInput(f"bin={width:g} s does not divide the window of {last - first:g} s")
    edges = first + width * np.arange(count + 1)
    return edges, (edges[:-1] + edges[1:]) / 2


def _counts(units: Any, event: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(trials, units, bins) spike counts in [edge, next edge)."""
    spikes = np.asarray(units["spike_times"][()], dtype=np.float64)
    ends = _ends(units, "spike_times", len(spikes))
    observed = "obs_intervals" in units
    spans = np.asarray(units["obs_intervals"][()], dtype=np.float64).reshape(-1, 2) if observed else np.zeros((0, 2))
    span_ends = _ends(units, "obs_intervals", len(spans)) if observed else None
    known = np.isfinite(event)
    at = np.where(known, event, 0.0)[:, None] + edges
    x = np.full((len(event), len(ends), len(edges) - 1), np.nan)
    for j, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        place = np.searchsorted(np.sort(spikes[first:last]), at)
        seen = known
        if span_ends is not None:
            mine = spans[0 if j == 0 else span_ends[j - 1] : span_ends[j]]
            within = (at[:, :1] >= mine[:, 0]) & (at[:, -1:] <= mine[:, 1])
            seen = known & within.any(1)
        x[seen, j] = np.diff(place[seen], axis=1)
    return x


def _ends(units: Any, column: str, size: int) -> np.ndarray:
    """Where the part of each unit ends in a ragged column."""
    if f"{column}_index" not in units:
        raise BadInput(f"/units has {column}, but no {column}_index: it does not say which unit they are of")
    ends = np.asarray(units[f"{column}_index"][()], dtype=np.int64)
    if len(ends) and (int(ends[-1]) > size or bool((np.diff(ends) < 0).any())):
        raise BadInput(f"/units/{column}_index does not fit {column}: the file is damaged, copy it again")
    return ends


def _columns(group: Any) -> dict[str, np.ndarray]:
    """Columns with one value for each row; ragged ones and references are left out."""
    found = {}
    for name, item in group.items():
        if not hasattr(item, "shape") or name.endswith("_index") or f"{name}_index" in group or item.ndim != 1:
            continue
        if item.dtype.kind in "biufSO" and item.dtype.names is None and not _is_reference(item):
            found[name] = values_of(item)
    return found


def _is_reference(item: Any) -> bool:
    import h5py

    return h5py.check_ref_dtype(item.dtype) is not None


def _trial_labels(file: Any, trials: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    names = [name for name in trials if name not in NOT_LABELS]
    n = len(next(iter(trials.values())))
    for field in TRIAL_FIELDS:
        asked = given.get(field)
        if asked is not None and not isinstance(asked, str):
            labels[field] = asked
            continue
        find = required if field == "condition" else found_name
        found = find(field, asked, [*names, *(NOT_LABELS if asked in NOT_LABELS else ())], f"{where}, /{TRIALS}")
        if found is not None:
            labels[field] = trials[found]
        elif WHOLE.get(field) in file:
            labels[field] = [str(values_of(file[WHOLE[field]]).item())] * n
    return labels


def _unit_labels(file: Any, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    columns = _columns(file[UNITS])
    labels: dict[str, Any] = {}
    for field in UNIT_FIELDS:
        asked = given.get(field)
        if asked is not None and not isinstance(asked, str):
            labels[field] = asked
            continue
        found = found_name(field, asked, columns, f"{where}, /{UNITS}")
        if found is not None:
            labels[field] = columns[found]
    labels.setdefault("unit", columns.get("id"))
    if "area" not in labels:
        labels["area"] = _locations(file)
    return {field: value for field, value in labels.items() if value is not None}


def _locations(file: Any) -> list[str] | None:
    """The location of each unit's electrodes, or of its electrode group; None where the file says neither."""
    units = file[UNITS]
    if "electrodes" in units and "electrodes_index" in units and f"{ELECTRODES}/location" in file:
        places = values_of(file[f"{ELECTRODES}/location"])
        rows = np.asarray(units["electrodes"][()], dtype=np.int64)
        ends = _ends(units, "electrodes", len(rows)).tolist()
        parts = [rows[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        return ["+".join(sorted({str(places[i]) for i in part})) or "unknown" for part in parts]
    if "electrode_group" in units:
        groups = [file[reference] for reference in units["electrode_group"][()]]
        return [str(values_of(group["location"]).item()) if "location" in group else "unknown" for group in groups]
    return None
