"""MATLAB files: up to version 7.2 by scipy, 7.3 (HDF5) by h5py. Structs are read by their path, "data.responses"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.recordings.readers.hdf5_files import is_hdf5, opened
from geomfeat.recordings.readers.named_arrays import LazyArrays, from_arrays
from geomfeat.recordings.readers.raw_recording import RawRecording
from geomfeat.storage.npz_files import UNREADABLE, first_line


def from_mat(path: Path, given: Mapping[str, Any]) -> RawRecording:
    """A .mat file of any version from 4 on; BadInput for one that is damaged, or holds MATLAB objects where asked."""
    if is_hdf5(path):
        with opened(path) as file:
            names = [name.replace("/", ".") for name in _datasets(file)]
            arrays = LazyArrays(names, lambda name: _value(file, file[name.replace(".", "/")], name))
            return from_arrays(arrays, given, str(path), path.stem)
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path, simplify_cells=True)
    except (*UNREADABLE, MatReadError) as cause:
        raise BadInput(
            f"{str(path)!r} is damaged, or no MATLAB file ({first_line(cause)}): save it again, save(file, '-v7')"
        ) from cause
    arrays = {name: _text_trimmed(value) for name, value in _leaves(found)}
    return from_arrays(arrays, given, str(path), path.stem)


def _leaves(struct: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in struct.items():
        if name.startswith("__"):
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text_trimmed(value: Any) -> Any:
    """Text without the blanks that make rows of a character array equally long."""
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype.kind == "O"):
        flat = list(np.asarray(value, dtype=object).ravel()) if isinstance(value, np.ndarray) else value
        if all(isinstance(one, str) for one in flat):
            return np.array([one.rstrip() for one in flat])
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return np.char.rstrip(value)
    return value


def _datasets(group: Any, prefix: str = "") -> Iterator[str]:
    """Paths of all values of the file; #refs# and #subsystem# hold the contents of cells and objects."""
    import h5py

    for name, item in group.items():
        if name.startswith("#"):
            continue
        if isinstance(item, h5py.Group):
            yield from _datasets(item, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"


def _value(file: Any, item: Any, name: str) -> Any:
    """A variable as in MATLAB: axes turned back, characters as text, cells of text as an array of text."""
    kind = item.attrs.get("MATLAB_class", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if item.attrs.get("MATLAB_empty", 0):
        return np.zeros(0)
    if kind == "char":
        return _text(item)
    if kind == "cell":
        cells = [file[reference] for reference in item[()].T.ravel(order="F")]
        values = [_value(file, cell, name) for cell in cells]
        # A cell holds one text, whether it lies along a row or a column.
        values = ["".join(v) if isinstance(v, np.ndarray) and v.dtype.kind == "U" else v for v in values]
        single = [v.item() if isinstance(v, np.ndarray) and v.size == 1 else v for v in values]
        if any(isinstance(v, np.ndarray) for v in single):
            raise BadInput(f"{name} is a cell array of arrays: give a cell array of text, or a vector of numbers")
        return np.array(single)
    if kind in ("string", "categorical", "table", "datetime", "containers.Map") or "MATLAB_object_decode" in item.attrs:
        raise BadInput(
            f"{name} is a MATLAB object ({kind or 'object'}), which is not stored as plain values: convert it "
            "first, as with cellstr(x)"
        )
    return np.ascontiguousarray(item[()].T)


def _text(item: Any) -> Any:
    """Rows of characters (turned in the file) as text, without trailing blanks."""
    codes = np.atleast_2d(item[()].T)
    rows = ["".join(map(chr, row)).rstrip() for row in codes.tolist()]
    return rows[0] if len(rows) == 1 else np.array(rows)
