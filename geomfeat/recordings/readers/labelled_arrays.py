"""Arrays with named axes and coordinates: xarray's DataArray, NeuroidAssembly, and netCDF files.

Objects are read by what they have (dims, coords, values), so xarray is only needed for files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.recordings.readers.field_names import AXES, DIMENSIONS, found_name, required
from geomfeat.recordings.readers.named_arrays import numbers
from geomfeat.recordings.readers.raw_recording import RawRecording
from geomfeat.recordings.trial_labels import TRIAL_FIELDS, UNIT_FIELDS

TAKEN = ("x", *TRIAL_FIELDS, *UNIT_FIELDS, "time", "dims")
PER_SECOND = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e3, "msec": 1e3, "millisecond": 1e3,
              "milliseconds": 1e3, "us": 1e6, "microseconds": 1e6}  # fmt: skip
BIN_EDGES = ("time_bin_start", "time_bin_end")  # of a NeuroidAssembly, in milliseconds


def is_labelled(source: Any) -> bool:
    """Whether an object has what a DataArray has."""
    return all(hasattr(source, name) for name in ("dims", "coords", "values", "attrs"))


def from_netcdf(path: Path, given: Mapping[str, Any]) -> RawRecording:
    """A netCDF file by xarray; x= names the variable where there are several."""
    try:
        import xarray  # pyright: ignore[reportMissingImports]
    except ImportError as cause:
        raise BadInput(
            f"{str(path)!r} is a netCDF file, which needs xarray: pip install xarray h5netcdf (or save with np.savez)"
        ) from cause
    try:
        with xarray.open_dataset(path) as file:
            found = file.load()
    except (OSError, ValueError) as cause:
        raise BadInput(f"{str(path)!r} cannot be read as netCDF ({str(cause)[:200]}): copy it again") from cause
    names = [str(name) for name in found.data_vars]
    asked = given.get("x")
    name = asked if asked is not None else names[0] if len(names) == 1 else None
    name = required("x", name, names, str(path))
    others = {str(one): found[one] for one in found.data_vars if one != name and found[one].ndim == 1}
    array = found[name].assign_coords(others)
    return from_labelled(array, {k: v for k, v in given.items() if k != "x"}, str(path), path.stem)


def from_labelled(source: Any, given: Mapping[str, Any], where: str, name: str = "") -> RawRecording:
    """A DataArray or NeuroidAssembly: its axes by their names (dims= for other names), labels from the coordinates.

    Raises BadInput for axes that are not trials, units and time, and where no coordinate holds the conditions.
    """
    roles = _roles(source, given.get("dims"), where)
    dims = [str(dim) for dim in source.dims]
    order = [roles[axis] for axis in AXES if axis in roles]
    x = np.transpose(numbers(source.values, where), [dims.index(dim) for dim in order])
    labels: dict[str, Any] = {}
    used: dict[str, str] = {}
    for fields, axis in ((TRIAL_FIELDS, "trial"), (UNIT_FIELDS, "unit")):
        known = _coordinates(source, roles[axis])
        for field in fields:
            asked = given.get(field)
            if asked is not None and not isinstance(asked, str):
                labels[field] = asked
                continue
            find = required if field == "condition" else found_name
            found = find(field, asked, known, f"axis {roles[axis]!r} of {where}")
            if found is not None:
                labels[field], used[field] = known[found], found
    guessed = [f"{field} is {found!r}" for field, found in used.items() if found != field and given.get(field) is None]
    notes = [f"by their usual names, {', '.join(guessed)}"] if guessed else []
    time, note = _seconds(source, roles["time"], given.get("time"), where) if "time" in roles else (None, "")
    return RawRecording(
        x, labels, time, name or str(getattr(source, "name", "") or ""), (*notes, *filter(None, [note]))
    )


def _roles(source: Any, dims: Any, where: str) -> dict[str, str]:
    """Axis -> name of its dimension."""
    names = [str(dim) for dim in source.dims]
    if dims is not None:
        order = list(dims)
        if len(order) != len(names) or sorted(order) not in (sorted(AXES[:2]), sorted(AXES)):
            raise BadInput(f"dims={tuple(order)!r} must say which of 'trial', 'unit' (and 'time') each of {names} is")
        return dict(zip(order, names, strict=True))
    roles: dict[str, str] = {}
    for name in names:
        axis = next((axis for axis, usual in DIMENSIONS.items() if name.lower() in usual), None)
        if axis is None or axis in roles:
            raise BadInput(
                f"axis {name!r} of {where} is not known: say what the axes {names} are by dims=, as in "
                "dims=('trial', 'unit', 'time')"
            )
        roles[axis] = name
    if not {"trial", "unit"} <= roles.keys():
        raise BadInput(f"{where} has the axes {names}: it needs one of trials and one of units")
    return roles


def _coordinates(source: Any, dim: str) -> dict[str, np.ndarray]:
    """Coordinates along one axis; the tuples of a MultiIndex are left to its levels, which are coordinates too."""
    found = {}
    for name in source.coords:
        coordinate = source.coords[name]
        if tuple(map(str, coordinate.dims)) != (dim,):
            continue
        values = np.asarray(coordinate.values)
        if not (values.dtype.kind == "O" and len(values) and isinstance(values[0], tuple)):
            found[str(name)] = values
    return found


def _seconds(source: Any, dim: str, asked: Any, where: str) -> tuple[Any, str]:
    """Time stamps in seconds, and what was converted."""
    if asked is not None and not isinstance(asked, str):
        return asked, ""
    known = _coordinates(source, dim)
    if asked is None and all(name in known for name in BIN_EDGES):
        first, last = (np.asarray(known[name], dtype=np.float64) for name in BIN_EDGES)
        return (first + last) / 2e3, "time is the middle of time_bin_start and time_bin_end, read as milliseconds"
    name = required("time", asked, known, f"axis {dim!r} of {where}")
    values = known[name]
    if values.dtype.kind == "m":
        return values / np.timedelta64(1, "s"), ""
    unit = str(getattr(source.coords[name], "attrs", {}).get("units", "s")).strip()
    if unit not in PER_SECOND:
        raise BadInput(f"time of {where} is in {unit!r}: give it in seconds, time=array")
    scale = PER_SECOND[unit]
    values = np.asarray(values, dtype=np.float64) / scale
    return values, "" if scale == 1.0 else f"time was converted from {unit} to seconds"
