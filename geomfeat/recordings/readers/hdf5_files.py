"""HDF5 files, opened for reading with the package h5py; what kind of file they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.storage.npz_files import UNREADABLE, first_line

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Where the signature may begin: MATLAB puts its own header of 512 bytes first.
STARTS = (0, 512, 1024, 2048)


def is_hdf5(path: Path) -> bool:
    """Whether a file has the signature of HDF5."""
    with path.open("rb") as file:
        for start in STARTS:
            file.seek(start)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return True
    return False


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open for reading. Raises BadInput where h5py is not installed, and for a damaged file."""
    try:
        import h5py
    except ImportError as cause:
        raise BadInput(f"{str(path)!r} is an HDF5 file, which needs h5py: pip install h5py") from cause
    try:
        file = h5py.File(path, "r")
    except OSError as cause:
        raise BadInput(f"{str(path)!r} is damaged, or no HDF5 file ({first_line(cause)}): copy it again") from cause
    with file:
        try:
            yield file
        except BadInput:
            raise
        except UNREADABLE as cause:
            raise BadInput(f"{str(path)!r} is damaged, or not laid out as expected ({first_line(cause)})") from cause


def values_of(dataset: Any) -> np.ndarray:
    """The values of a data set, bytes as text."""
    array = np.asarray(dataset[()])
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype.kind == "O":
        return np.array([v.decode("utf-8") if isinstance(v, bytes) else v for v in array.ravel()], dtype=object)
    return array
