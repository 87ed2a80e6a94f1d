"""One recording in every format is read as the same numbers; what cannot be read is refused with the remedy."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import geomfeat as gf
from geomfeat.recordings import Recording, load_recording
from tests.recordings import one_recording as one

OPENED: dict[str, Callable[[Path, bool], Recording]] = {
    "npz": lambda folder, timed: load_recording(one.npz(folder, timed)),
    "mat": lambda folder, timed: load_recording(one.mat(folder, timed)),
    "mat 7.3": lambda folder, timed: load_recording(one.mat_73(folder, timed)),
    "long csv": lambda folder, timed: load_recording(one.long_csv(folder, timed)),
    "long parquet": lambda folder, timed: load_recording(one.long_parquet(folder, timed)),
    "frame": lambda folder, timed: load_recording(one.long_frame(timed)),
    "rsatoolbox": lambda folder, timed: load_recording(one.dataset(timed)),
    "rsatoolbox file": lambda folder, timed: load_recording(one.dataset_file(folder, timed)),
    "neuroid assembly": lambda folder, timed: load_recording(one.assembly(timed)),
}


def number_of(recording: Recording) -> list[tuple[float, float | None]]:
    """Values of two measures with their errors, which depend on x, the conditions and the runs."""
    layer = recording.to_representation()
    found = [gf.get(name).run(layer) for name in ("participation_ratio", "nc1")]
    return [(estimate.value, estimate.stderr) for numbers in found for estimate in numbers.values()]


def assert_same(found: Recording, timed: bool, fields: tuple[str, ...] = ("condition", "run", "area", "unit")) -> None:
    wanted = one.expected(timed)
    assert found.x.dtype == torch.float64
    assert torch.equal(found.x, wanted.x)
    for field in fields:
        assert getattr(found, field).tolist() == getattr(wanted, field).tolist(), field
    if timed:
        torch.testing.assert_close(found.time, wanted.time, rtol=0, atol=1e-12)
    assert number_of(found) == number_of(wanted)


@pytest.mark.parametrize("timed", [False, True], ids=["no time", "time"])
@pytest.mark.parametrize("form", OPENED)
def test_every_format_gives_the_same_numbers(form: str, timed: bool, tmp_path: Path) -> None:
    assert_same(OPENED[form](tmp_path, timed), timed)


def test_formats_without_a_time_axis_give_the_same_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", one.SUMS)
    table = pd.DataFrame({"condition": one.CONDITION, "run": one.RUN})
    table.to_csv(tmp_path / "trials.tsv", sep="\t", index=False)
    for labels in (table, tmp_path / "trials.tsv"):
        assert_same(load_recording(tmp_path / "x.npy", labels=labels, area=one.AREA, unit=one.UNIT), timed=False)
    wide = table.assign(**dict(zip(one.UNIT, one.SUMS.T, strict=True)))
    wide.to_csv(tmp_path / "wide.csv", index=False)
    assert_same(load_recording(tmp_path / "wide.csv", unit="u?", area=one.AREA), timed=False)
    assert_same(load_recording(wide, unit=one.UNIT.tolist(), area=one.AREA), timed=False)
    arrays = {"rates": one.SUMS.T, "stimulus": one.CONDITION, "run": one.RUN}
    assert_same(load_recording(arrays, dims=("unit", "trial"), area=one.AREA, unit=one.UNIT), timed=False)


def test_spikes_of_an_nwb_file_are_counted_around_the_event(tmp_path: Path) -> None:
    found = load_recording(one.nwb(tmp_path), window=(0, 0.4), bin=0.1, unit="name")
    assert_same(found, timed=True)
    assert found.notes[0] == "spike counts from 0 to 0.4 s around 'start_time', in bins of 0.1 s"
    assert set(found.subject) == {"monkey 1"}
    assert_same(load_recording(tmp_path / "one.nwb", window=(0, 0.4), unit="name"), timed=False)
    assert load_recording(tmp_path / "one.nwb", window=(0.5, 1.0)).x.sum() == 0


def test_trials_that_a_unit_was_not_observed_in_are_missing_and_not_silent(tmp_path: Path) -> None:
    path = one.nwb(tmp_path, observed=True)
    with pytest.raises(gf.BadInput, match="12 missing of 120 values"):
        load_recording(path, window=(0, 0.4))
    assert load_recording(path, window=(0, 0.4), missing="drop units").n_units == 4
    kept = load_recording(path, window=(0, 0.4), missing="drop trials")
    assert torch.equal(kept.x, one.expected(False).x[:12])
    events = 2.0 * np.arange(one.N)
    events[3] = np.nan
    lost = load_recording(one.nwb(tmp_path, events=events), window=(0, 0.4), missing="drop trials")
    assert lost.n_trials == one.N - 1
    assert "1 of 24 trials were dropped: values are missing (NaN)" in lost.notes


def test_voxels_of_a_mask_are_units_and_an_atlas_gives_areas() -> None:
    volumes, atlas = one.image()
    found = load_recording(volumes, mask=atlas, condition=one.CONDITION, run=one.RUN)
    assert_same(found, timed=False, fields=("condition", "run"))
    assert [("V4", "IT")[code - 1] for code in found.area] == one.AREA.tolist()
    assert found.unit.tolist() == ["0,0,0", "0,1,1", "1,0,0", "1,1,0", "2,1,1"]
    only = load_recording(volumes, mask=atlas.dataobj == 2, condition=one.CONDITION)
    assert torch.equal(only.x, one.expected(False).x[:, 2:])
    assert only.area is None


def test_real_xarray_objects_and_netcdf_files_are_read(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    coords = {
        "condition": ("trial", one.CONDITION), "run": ("trial", one.RUN), "area": ("unit", one.AREA),
        "unit": ("unit", one.UNIT), "time": ("time", 1e3 * one.TIME, {"units": "ms"}),
    }  # fmt: skip
    array = xarray.DataArray(one.COUNTS.transpose(2, 0, 1), coords, ("time", "trial", "unit"), name="rates")
    assert_same(load_recording(array), timed=True)
    assert "time was converted from ms to seconds" in load_recording(array).notes
    array.to_netcdf(tmp_path / "one.nc")
    assert_same(load_recording(tmp_path / "one.nc"), timed=True)
    stacked = array.sum("time").set_index(trial=["condition", "run"])
    assert_same(load_recording(stacked), timed=False)


def test_real_nifti_images_are_read(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volumes, atlas = one.image()
    for part, name in ((volumes, "betas.nii.gz"), (atlas, "atlas.nii")):
        nibabel.save(nibabel.Nifti1Image(part.dataobj, part.affine), tmp_path / name)
    labels = pd.DataFrame({"condition": one.CONDITION, "run": one.RUN})
    found = load_recording(tmp_path / "betas.nii.gz", mask=tmp_path / "atlas.nii", labels=labels)
    assert_same(found, timed=False, fields=("condition", "run"))
    moved = nibabel.Nifti1Image(atlas.dataobj, np.eye(4))
    with pytest.raises(gf.BadInput, match="different places"):
        load_recording(tmp_path / "betas.nii.gz", mask=moved, labels=labels)


def test_files_that_pynwb_writes_are_read(tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    file = pynwb.NWBFile("one recording", "one", datetime(2026, 1, 1, tzinfo=UTC))
    file.subject = pynwb.file.Subject(subject_id="monkey 1", species="Macaca mulatta", sex="F", age="P5Y")
    device = file.create_device("array")
    groups = {area: file.create_electrode_group(area, "shank", area, device) for area in ("V4", "IT")}
    for area, group in groups.items():
        file.add_electrode(group=group, location=area)
    file.add_unit_column("label", "name of the unit")
    for times, name, area in zip(one.spike_times(), one.UNIT, one.AREA, strict=True):
        file.add_unit(spike_times=times, electrodes=[0 if area == "V4" else 1], label=str(name))
    file.add_trial_column("stimulus", "what was shown")
    file.add_trial_column("run", "run")
    for i in range(one.N):
        start = 2.0 * i
        file.add_trial(start_time=start, stop_time=start + 1, stimulus=str(one.CONDITION[i]), run=int(one.RUN[i]))
    with pynwb.NWBHDF5IO(tmp_path / "real.nwb", "w") as io:
        io.write(file)
    assert_same(load_recording(tmp_path / "real.nwb", window=(0, 0.4), bin=0.1, unit="label"), timed=True)


class Refused:
    """What cannot be taken: the source, the fields, and what the error says."""

    CASES: tuple[tuple[str, Callable[[Path], Any], dict[str, Any], str], ...] = (
        ("a pickle", lambda folder: _pickled(folder), {}, "is a pickle, which can run code"),
        ("no file", lambda folder: folder / "none.npz", {}, "not there"),
        ("a folder", lambda folder: folder, {}, "a folder"),
        ("another ending", lambda folder: _written(folder, "a.docx"), {}, "docx is none of"),
        ("no HDF5", lambda folder: _written(folder, "a.nwb"), {}, "damaged, or no HDF5 file"),
        ("a damaged mat", lambda folder: _written(folder, "a.mat"), {}, "damaged, or no MATLAB file"),
        ("a damaged npz", lambda folder: _written(folder, "a.npz"), {}, "damaged or truncated"),
        ("an empty csv", lambda folder: _written(folder, "a.csv", b""), {}, "cannot be read as .csv"),
        ("an unknown field", lambda folder: one.npz(folder, False), {"conditon": "y"}, "near: condition"),
        ("a field of others", lambda folder: one.npz(folder, False), {"mask": "m"}, "mask= is not of .npz files"),
        ("a wrong name", lambda folder: one.npz(folder, False), {"run": "rum"}, "has no 'rum' for run=; near: run"),
        ("no condition", lambda folder: {"x": one.SUMS}, {}, "has no condition: name it by condition="),
        ("two names", lambda folder: {"x": one.SUMS, "stim": one.RUN, "label": one.RUN}, {}, "each of which may be"),
        ("units first", lambda folder: {"x": one.SUMS.T, "condition": one.CONDITION}, {}, "as with x.T"),
        ("text", lambda folder: {"x": one.CONDITION[:, None], "condition": one.CONDITION}, {}, "array of real numbers"),
        ("no window", lambda folder: one.nwb(folder), {}, "give (from, to) in seconds"),
        ("odd bins", lambda folder: one.nwb(folder), {"window": (0, 0.4), "bin": 0.15}, "does not divide"),
        ("no mask", lambda folder: one.image()[0], {"condition": one.CONDITION}, "needs mask="),
        ("one volume", lambda folder: one.image()[1], {"condition": one.CONDITION}, "give a 4-D image"),
        ("no time", lambda folder: {"x": one.COUNTS, "condition": one.CONDITION}, {}, "name its time stamps"),
        ("a list", lambda folder: [1, 2], {}, "source is a list"),
    )  # fmt: skip


def _pickled(folder: Path) -> Path:
    path = folder / "data.pkl"
    path.write_bytes(pickle.dumps({"x": 1}))
    return path


def _written(folder: Path, name: str, content: bytes = b"this is not what it says") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    ("make", "fields", "words"), [case[1:] for case in Refused.CASES], ids=[c[0] for c in Refused.CASES]
)
def test_what_cannot_be_read_is_refused_with_the_remedy(
    make: Callable[[Path], Any], fields: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(gf.BadInput) as error:
        load_recording(make(tmp_path), **fields)
    assert words in str(error.value)


def test_long_tables_tell_apart_what_is_numbered_anew_and_refuse_what_is_not_one_value() -> None:
    frame = one.long_frame(False)
    anew = frame.assign(trial=frame["trial"] % 6)
    assert_same(load_recording(anew), timed=False)
    with pytest.raises(gf.BadInput, match="values more than once"):
        load_recording(anew.drop(columns="run"))
    with pytest.raises(gf.BadInput, match="1 of 24 trials of the table have two or more conditions"):
        load_recording(
            frame.assign(condition=np.where((frame.trial == 0) & (frame.unit == "u0"), "?", frame.condition))
        )
    with pytest.raises(gf.BadInput, match="1 missing of 120 values"):
        load_recording(frame.iloc[1:])
    with pytest.raises(gf.BadInput, match="has no column of values"):
        load_recording(frame.drop(columns="value"))


def test_names_of_conditions_and_whole_files_of_one_session_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", responses=one.SUMS, category=np.arange(24) % 3, names=["face", "house", "tool"],
             session="monday", subjects=np.arange(3))  # fmt: skip
    found = load_recording(tmp_path / "a.npz")
    assert found.condition.tolist() == one.CONDITION.tolist()
    assert set(found.session) == {"monday"}
    assert found.notes == (
        "'subjects' of "
        + str(tmp_path / "a.npz")
        + " was not read as subject: it has not one entry for each of the 24",
        "by their usual names, x is 'responses', condition is 'category'",
    )
    assert found.group_word == "trial"


def test_sessions_with_units_of_their_own_are_separated_or_put_side_by_side() -> None:
    x = one.SUMS.astype(float)
    session = np.repeat(["mon", "tue"], 12)
    x[:12, 3:], x[12:, :2] = np.nan, np.nan
    arrays = {"x": x, "condition": one.CONDITION, "session": session, "unit": one.UNIT}
    with pytest.raises(
        gf.BadInput, match="4 units have no values in some of the sessions: sessions='pseudo-population'"
    ):
        load_recording(arrays)
    apart = load_recording(arrays, sessions="apart")
    assert {key: part.unit.tolist() for key, part in apart.items()} == {
        "mon": ["u0", "u1", "u2"],
        "tue": ["u2", "u3", "u4"],
    }
    assert torch.equal(apart["tue"].x, torch.from_numpy(x[12:, 2:]))
    both = load_recording(arrays, sessions="pseudo-population")
    assert both.pseudo
    assert both.unit.tolist() == ["mon/u0", "mon/u1", "mon/u2", "tue/u2", "tue/u3", "tue/u4"]
    with pytest.raises(gf.BadInput, match="there are no session labels"):
        load_recording({"x": x, "condition": one.CONDITION}, sessions="apart")
