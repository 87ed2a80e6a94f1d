"""One recording, written in every format: spike counts of 5 units in 24 trials and 4 bins of 0.1 s."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import rsatoolbox.data
import scipy.io

from geomfeat.numerics import numpy_stream
from geomfeat.recordings import Recording

N, UNITS, BINS, WIDTH = 24, 5, 4, 0.1
NOISE = numpy_stream(0, "one recording")
CONDITION = np.array(["face", "house", "tool"] * 8)
RUN = np.repeat([1, 2, 3, 4], 6)
AREA = np.array(["V4", "V4", "IT", "IT", "IT"])
UNIT = np.array([f"u{j}" for j in range(UNITS)])
TIME = WIDTH * (np.arange(BINS) + 0.5)
RATES = np.array([[[2.0, 5, 1, 3, 4], [4, 1, 2, 6, 1], [1, 2, 6, 1, 3]]])[0]
COUNTS = NOISE.poisson(RATES[np.arange(N) % 3][:, :, None] * np.array([0.5, 2.0, 1.5, 1.0])).astype(np.int64)
SUMS = COUNTS.sum(2)


def expected(timed: bool) -> Recording:
    return Recording(
        COUNTS if timed else SUMS, CONDITION, run=RUN, area=AREA, unit=UNIT, time=TIME if timed else None
    )  # fmt: skip


def npz(folder: Path, timed: bool) -> Path:
    more = {"time": TIME} if timed else {}
    path = folder / "one.npz"
    np.savez(path, x=COUNTS if timed else SUMS, condition=CONDITION, run=RUN, area=AREA, unit=UNIT, **more)
    return path


def mat(folder: Path, timed: bool) -> Path:
    """Version 5: text as a cell array and as a character array, vectors as columns and rows."""
    path = folder / "one.mat"
    cells = np.array(CONDITION.tolist(), dtype=object)[:, None]
    more = {"time": TIME} if timed else {}
    scipy.io.savemat(
        path,
        {"x": COUNTS if timed else SUMS, "condition": cells, "run": RUN[:, None], "area": AREA, "unit": UNIT, **more},
    )
    return path


def mat_73(folder: Path, timed: bool) -> Path:
    """Version 7.3 as MATLAB lays it out: a header of 512 bytes, axes turned, text as numbers, cells as references."""
    path = folder / "one73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")

        def put(name: str, values: np.ndarray, kind: str) -> Any:
            made = file.create_dataset(name, data=values)
            made.attrs["MATLAB_class"] = np.bytes_(kind)
            return made

        def cells(name: str, words: np.ndarray) -> None:
            parts = []
            for i, word in enumerate(words):
                part = refs.create_dataset(f"{name}{i}", data=np.array([[ord(c)] for c in word], np.uint16))
                part.attrs["MATLAB_class"], part.attrs["MATLAB_int_decode"] = np.bytes_("char"), 2
                parts.append(part.ref)
            made = file.create_dataset(name, data=np.array(parts, dtype=h5py.ref_dtype)[None], dtype=h5py.ref_dtype)
            made.attrs["MATLAB_class"] = np.bytes_("cell")

        put("x", (COUNTS if timed else SUMS).astype(float).T, "double")
        put("run", RUN.astype(float)[None], "double")
        cells("condition", CONDITION)
        cells("area", AREA)
        cells("unit", UNIT)
        if timed:
            put("time", TIME[None], "double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM")
    return path


def long_frame(timed: bool) -> pd.DataFrame:
    """A row for each value, in a random order."""
    shape = (N, UNITS, BINS) if timed else (N, UNITS)
    place = np.indices(shape).reshape(len(shape), -1)
    trial, unit = place[0], place[1]
    columns = {
        "trial": trial, "unit": UNIT[unit], "condition": CONDITION[trial], "run": RUN[trial], "area": AREA[unit],
        "value": (COUNTS if timed else SUMS).reshape(-1),
    }  # fmt: skip
    if timed:
        columns["time"] = TIME[place[2]]
    return pd.DataFrame(columns).sample(frac=1, random_state=0)


def long_csv(folder: Path, timed: bool) -> Path:
    long_frame(timed).to_csv(folder / "one.csv", index=False)
    return folder / "one.csv"


def long_parquet(folder: Path, timed: bool) -> Path:
    long_frame(timed).to_parquet(folder / "one.parquet")
    return folder / "one.parquet"


def dataset(timed: bool) -> Any:
    given = {
        "obs_descriptors": {"condition": CONDITION.tolist(), "run": RUN.tolist()},
        "channel_descriptors": {"area": AREA.tolist(), "unit": UNIT.tolist()},
    }
    if timed:
        return rsatoolbox.data.TemporalDataset(COUNTS, time_descriptors={"time": TIME}, **given)
    return rsatoolbox.data.Dataset(SUMS, **given)


def dataset_file(folder: Path, timed: bool) -> Path:
    path = folder / "one.h5"
    dataset(timed).save(str(path), file_type="hdf5")
    return path


def assembly(timed: bool) -> Any:
    """What a NeuroidAssembly has: levels of a MultiIndex as coordinates, axes in another order, times as bins in ms."""
    pairs = np.empty(N, dtype=object)
    pairs[:] = list(zip(CONDITION, RUN, strict=True))
    coords = {
        "presentation": SimpleNamespace(dims=("presentation",), values=pairs, attrs={}),
        "category_name": SimpleNamespace(dims=("presentation",), values=CONDITION, attrs={}),
        "run": SimpleNamespace(dims=("presentation",), values=RUN, attrs={}),
        "neuroid_id": SimpleNamespace(dims=("neuroid",), values=UNIT, attrs={}),
        "region": SimpleNamespace(dims=("neuroid",), values=AREA, attrs={}),
    }
    dims, values = ("neuroid", "presentation"), SUMS.T
    if timed:
        starts = np.arange(BINS) * 100
        coords["time_bin_start"] = SimpleNamespace(dims=("time_bin",), values=starts, attrs={})
        coords["time_bin_end"] = SimpleNamespace(dims=("time_bin",), values=starts + 100, attrs={})
        dims, values = ("neuroid", "presentation", "time_bin"), COUNTS.transpose(1, 0, 2)
    return SimpleNamespace(dims=dims, coords=coords, values=values, attrs={}, name="one")


def spike_times() -> list[np.ndarray]:
    """Of each unit: as many in each bin of each trial as COUNTS says; trials begin every 2 s."""
    found = []
    for unit in range(UNITS):
        times = [
            2.0 * i + WIDTH * (k + (np.arange(COUNTS[i, unit, k]) + 0.5) / max(COUNTS[i, unit, k], 1))
            for i in range(N)
            for k in range(BINS)
        ]
        found.append(np.concatenate(times))
    return found


def nwb(folder: Path, observed: bool = False, events: np.ndarray | None = None) -> Path:
    """The parts of an NWB file that are read, laid out as pynwb does."""
    path, spikes = folder / "one.nwb", spike_times()
    starts = 2.0 * np.arange(N) if events is None else events
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.8.0"
        file["general/subject/subject_id"] = "monkey 1"
        file["general/extracellular_ephys/electrodes/location"] = np.array([b"V4", b"IT"], dtype=object)
        units = file.create_group("units")
        units["id"] = np.arange(UNITS)
        units["name"] = UNIT.astype(object)
        units["spike_times"] = np.concatenate(spikes)
        units["spike_times_index"] = np.cumsum([len(s) for s in spikes])
        units["electrodes"] = np.array([0, 0, 1, 1, 1])
        units["electrodes_index"] = np.arange(1, UNITS + 1)
        if observed:  # the last unit was lost in the middle
            units["obs_intervals"] = np.array([[0.0, 100.0]] * (UNITS - 1) + [[0.0, 23.0]])
            units["obs_intervals_index"] = np.arange(1, UNITS + 1)
        trials = file.create_group("intervals/trials")
        trials["id"] = np.arange(N)
        trials["start_time"], trials["stop_time"] = starts, starts + 1
        trials["stimulus"], trials["run"] = CONDITION.astype(object), RUN
    return path


def image(timed: bool = False) -> tuple[Any, Any]:
    """(4-D image, atlas): voxels of a box of 3 x 2 x 2, five of them in area 1 (V4) or 2 (IT)."""
    places = [(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 0), (2, 1, 1)]
    volumes, atlas = np.zeros((3, 2, 2, N)), np.zeros((3, 2, 2), dtype=np.int16)
    for j, place in enumerate(places):
        volumes[place], atlas[place] = SUMS[:, j], 1 if AREA[j] == "V4" else 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return tuple(SimpleNamespace(dataobj=data, affine=affine, shape=data.shape) for data in (volumes, atlas))
