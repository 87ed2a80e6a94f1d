"""Open a recording, whatever holds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from geomfeat.errors import BadInput
from geomfeat.recordings._recording import Recording
from geomfeat.recordings.missing_values import REFUSE
from geomfeat.recordings.readers import (
    labelled_arrays,
    matlab,
    named_arrays,
    nifti,
    nwb,
    rsatoolbox_datasets,
    tables,
)
from geomfeat.recordings.readers.field_names import Fields, checked_fields
from geomfeat.recordings.readers.hdf5_files import is_hdf5, opened, values_of
from geomfeat.recordings.readers.raw_recording import TOGETHER, RawRecording
from geomfeat.storage.owned_files import as_path

Reader = Callable[[Path, Mapping[str, Any]], RawRecording]
WIDE = (*tables.LONG, "classes")
BY_SUFFIX: dict[str, tuple[Reader, Collection[str]]] = {
    ".npz": (named_arrays.from_npz, named_arrays.TAKEN),
    ".npy": (named_arrays.from_npy, named_arrays.WITH_LABELS),
    ".mat": (matlab.from_mat, named_arrays.TAKEN),
    ".nc": (labelled_arrays.from_netcdf, labelled_arrays.TAKEN),
    **dict.fromkeys(tables.SUFFIXES, (tables.from_table_file, WIDE)),
    **dict.fromkeys(nifti.SUFFIXES, (nifti.from_nifti, nifti.TAKEN)),
}
HDF5 = (".nwb", ".h5", ".hdf5")
PICKLES = (".pkl", ".pickle", ".p", ".joblib", ".dill")


@overload
def load_recording(
    source: Any, *, missing: str = ..., sessions: Literal["apart"], seed: int = ..., **fields: Unpack[Fields]
) -> dict[Hashable, Recording]: ...


@overload
def load_recording(
    source: Any, *, missing: str = ..., sessions: str = ..., seed: int = ..., **fields: Unpack[Fields]
) -> Recording: ...


def load_recording(
    source: Any, *, missing: str = REFUSE, sessions: str = TOGETHER, seed: int = 0, **fields: Unpack[Fields]
) -> Recording | dict[Hashable, Recording]:
    """A recording from a file or an object of another package.

    Args:
        source: a path: .npz, .npy, .mat (any version), .csv / .tsv / .parquet, .nc (netCDF, needs xarray), .nwb, .h5
            (rsatoolbox, NWB, or plain arrays), .nii / .nii.gz (needs nibabel). Or an object: a DataArray or
            NeuroidAssembly, a pandas frame, a Dataset or TemporalDataset of rsatoolbox, an image of nibabel, a
            mapping of names to arrays, a Recording.
        missing: what to do about NaN: "refuse", "drop trials" or "drop units"; see `Recording`.
        sessions: "together": the same units in all sessions. "apart": session -> Recording, each of the units that have
            values in it. "pseudo-population": these side by side, see `pseudo_population`.
        seed: of the pairing of trials in a pseudo-population.
        x, condition, run, session, subject, area, unit, time: the name that each has in the source, or the labels
            themselves; those left out are found by their usual names, which the notes then say. Time is in seconds.
        classes: names of the conditions 0, 1, ... where they are numbers. dims: which axis is which, such as
            ("unit", "trial"), where x is not (trials, units[, time]).
        labels: of .npy and .nii, a table with a row for each trial. trial, value: columns of long tables; in wide ones
            unit= names the columns of the units, by a list or a pattern ("unit_*").
        event, window, bin: of .nwb: spikes are counted from window[0] to window[1] seconds around the column `event`
            (default start_time) of the trials, in bins of so many seconds (default one).
        mask: of .nii: image (or path, or array) that is not zero inside the region; several numbers mean areas.
        name: of the recording; default that of the file.

    Pickled files are refused: they can run code. Nothing is written. Raises BadInput for other sources, files that are
    missing or damaged, names that are not there, and all that `Recording` refuses.

    >>> import tempfile
    >>> import numpy as np
    >>> path = tempfile.mkdtemp() + "/session1.npz"
    >>> np.savez(path, rates=np.random.rand(6, 4), stimulus=list("aabbcc"), run=[1, 2, 1, 2, 1, 2])
    >>> print(load_recording(path))
    Recording 'session1': 6 trials of 3 conditions (2 each), 4 units, 2 runs
      note: by their usual names, x is 'rates', condition is 'stimulus'
    """
    if isinstance(source, Recording):
        return _again(source, dict(fields))
    raw = _of_path(source, fields) if isinstance(source, str | os.PathLike) else _of_object(source, fields)
    name = fields.get("name")
    return (raw if name is None else replace(raw, name=str(name))).finished(missing, sessions, seed)


def _again(source: Recording, fields: Mapping[str, Any]) -> Recording:
    if fields:
        raise BadInput(f"{next(iter(fields))}= is given, but source is a Recording already: use dataclasses.replace")
    return source


def _of_path(source: Any, fields: Mapping[str, Any]) -> RawRecording:
    path = as_path(source, "source")
    suffix = "".join(path.suffixes[-2:]).lower() if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
    if suffix in PICKLES:
        raise BadInput(
            f"{str(path)!r} is a pickle, which can run code when it is read: load it where it was made, and save plain "
            "arrays (np.savez), or with rsatoolbox dataset.save(file, file_type='hdf5')"
        )
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not there"
        raise BadInput(f"source={str(path)!r} is {kind}: name the file of a recording")
    if suffix in HDF5:
        return _of_hdf5(path, fields)
    if suffix not in BY_SUFFIX:
        raise BadInput(f"{str(path)!r}: {suffix or 'no ending'} is none of {', '.join(sorted({*BY_SUFFIX, *HDF5}))}")
    read, taken = BY_SUFFIX[suffix]
    return read(path, checked_fields(fields, taken, f"{suffix} files"))


def _of_hdf5(path: Path, fields: Mapping[str, Any]) -> RawRecording:
    if not is_hdf5(path):
        raise BadInput(f"{str(path)!r} is damaged, or no HDF5 file: copy it again")
    with opened(path) as file:
        if nwb.is_nwb(file):
            read, taken, kind = nwb.from_nwb, nwb.TAKEN, "NWB files"
        elif rsatoolbox_datasets.is_dataset_file(file):
            read, taken, kind = rsatoolbox_datasets.from_dataset_file, rsatoolbox_datasets.TAKEN, "files of rsatoolbox"
        else:
            names = [name for name, item in file.items() if hasattr(item, "shape")]
            arrays = named_arrays.LazyArrays(names, lambda name: values_of(file[name]))
            given = checked_fields(fields, named_arrays.TAKEN, "HDF5 files of arrays")
            return named_arrays.from_arrays(arrays, given, str(path), path.stem)
    return read(path, checked_fields(fields, taken, kind))


def _of_object(source: Any, fields: Mapping[str, Any]) -> RawRecording:
    if labelled_arrays.is_labelled(source):
        given = checked_fields(fields, labelled_arrays.TAKEN, "arrays with named axes")
        return labelled_arrays.from_labelled(source, given, f"the {type(source).__name__}")
    if rsatoolbox_datasets.is_dataset(source):
        return rsatoolbox_datasets.from_dataset(
            source, checked_fields(fields, rsatoolbox_datasets.TAKEN, "datasets of rsatoolbox")
        )
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        return tables.from_table(source, checked_fields(fields, WIDE, "tables"), "the table")
    if nifti.is_image(source):
        return nifti.from_image(source, checked_fields(fields, nifti.TAKEN, "images"))
    if isinstance(source, Mapping):
        given = checked_fields(fields, named_arrays.TAKEN, "mappings of arrays")
        return named_arrays.from_arrays(source, given, "the mapping", "")
    raise BadInput(
        f"source is a {type(source).__name__}: give a path, a DataArray, a pandas frame, a Dataset of rsatoolbox, an "
        "image, a mapping of arrays, or make a Recording(x, condition, ...)"
    )
