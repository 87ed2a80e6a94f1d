"""Saving and loading a study: everything comes back; missing, truncated and corrupt files are reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geomfeat.errors import BadInput, OutputExists, WriteFailed
from geomfeat.location.result import Location
from geomfeat.storage.atomic import file_sha256, write_parquet
from geomfeat.storage.owned_files import MARK, replace_file
from geomfeat.study import Study
from geomfeat.study.result import FILES
from geomfeat.study.table import row, table_of
from geomfeat.types import Estimate


@pytest.fixture
def study() -> Study:
    rows = [
        row("q", Estimate(0.1 + 0.2, 1e-17), at="trained", measure="m", layer="fc1", n=5, d=3),
        row("q", Estimate.failed("constant features: leave the layer out"), at="init", measure="m", layer="fc1"),
    ]
    table = table_of(rows, run="net", seed=1, conditions={"lr": 0.1}, version="1")
    layers = pd.DataFrame([("fc1", -1.0, -1.1, -0.9, -0.9, 0.1, "lazy")],
                          columns=["layer", "richness", "low", "high", "movement", "excess", "regime"])  # fmt: skip
    where = Location(-1.0, -1.1, -0.9, -0.9, 0.1, "initial", None, False, "lazy", layers, ("one flag",))
    arrays = {"cka/initial/trained": np.array([[1.0, np.nan], [0.5, 1.0]]), "umap/labels": np.arange(4)}
    return Study("net", table, where, arrays, {"layers": ["fc1"], "seed": 1})


def test_everything_comes_back(study: Study, tmp_path: Path) -> None:
    back = Study.load(study.save(tmp_path / "deep" / "folder"))
    pd.testing.assert_frame_equal(back.table, study.table, check_exact=True)
    assert back.location is not None
    assert study.location is not None
    assert back.location.to_json() == study.location.to_json()
    assert back.arrays.keys() == study.arrays.keys()
    for key, array in study.arrays.items():
        np.testing.assert_array_equal(back.arrays[key], array)
        assert back.arrays[key].dtype == array.dtype
    assert (back.name, back.settings) == (study.name, study.settings)
    assert sorted(p.name for p in (tmp_path / "deep" / "folder").iterdir()) == sorted(FILES)


def test_a_study_that_could_not_be_located_comes_back_so(study: Study, tmp_path: Path) -> None:
    Study("net", study.table).save(tmp_path)
    assert Study.load(tmp_path).location is None


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_the_remedy(study: Study, tmp_path: Path, name: str) -> None:
    study.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BadInput, match=f"{name} missing.*geomfeat analyze"):
        Study.load(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(study: Study, tmp_path: Path, name: str) -> None:
    study.save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=f"{name} is truncated or corrupt"):
        Study.load(tmp_path)


@pytest.mark.parametrize("name", [n for n in FILES if n != "settings.json"])
def test_one_flipped_bit_is_noticed(study: Study, tmp_path: Path, name: str) -> None:
    study.save(tmp_path)
    damaged = bytearray((tmp_path / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(BadInput, match=f"{name} is truncated or corrupt"):
        Study.load(tmp_path)


def test_a_save_that_breaks_leaves_the_study_that_was_there_and_no_scraps(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.save(tmp_path)

    def break_down(path: Path, arrays: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "disk full")

    monkeypatch.setattr("geomfeat.study.result.write_arrays", break_down)
    with pytest.raises(WriteFailed, match=r"arrays\.npz cannot be written: disk full"):
        study.save(tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert Study.load(tmp_path).settings == study.settings


def test_replacing_a_file_is_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text(f"before {MARK}")

    def write(path: Path) -> None:
        path.write_text("hal")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(target, write)
    assert target.read_text() == f"before {MARK}"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_users_is_left_alone_and_nothing_is_written(study: Study, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputExists, match=f"{name} was not written by geomfeat"):
        study.save(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_study_is_replaced_and_what_lies_beside_it_stays(study: Study, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for each in (study, Study("other", study.table), study):
        each.save(tmp_path)
    assert Study.load(tmp_path).name == "net"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_path_is_refused(study: Study) -> None:
    with pytest.raises(BadInput, match="folder='' names nothing"):
        study.save("")
    with pytest.raises(BadInput, match="folder='' names nothing"):
        Study.load("")


def tampered(folder: Path, name: str) -> None:
    """Let the settings list what a file holds now."""
    settings = json.loads((folder / "settings.json").read_text())
    settings["files"][name] = file_sha256(folder / name)
    (folder / "settings.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="value"), "lacks the columns value"),
        (lambda t: t.drop(columns=["ok", "note"]), "lacks the columns ok, note"),
        (lambda t: t.assign(value="high"), "column value holds"),
        (lambda t: t.assign(ok=1.5), "column ok holds"), (lambda t: t.assign(measure=3), "column measure holds"),
        (lambda t: pd.DataFrame({"other": [1]}), "lacks the columns run, seed, at"),
    ],
)  # fmt: skip
def test_a_table_of_another_schema_is_refused_by_name(study: Study, tmp_path: Path, change: Any, message: str) -> None:
    study.save(tmp_path)
    write_parquet(tmp_path / "results.parquet", change(study.table))
    tampered(tmp_path, "results.parquet")
    with pytest.raises(BadInput, match=rf"results\.parquet is truncated or corrupt \(.*{message}"):
        Study.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}x", '{"richness": 1}', "[" * 100_000, '{"a":' * 50_000])
def test_a_location_that_is_none_is_refused_by_name(study: Study, tmp_path: Path, text: str) -> None:
    study.save(tmp_path)
    (tmp_path / "location.json").write_text(text)
    tampered(tmp_path, "location.json")
    with pytest.raises(BadInput, match=r"location\.json is truncated or corrupt"):
        Study.load(tmp_path)


@pytest.mark.parametrize(
    "files", [None, [], 3, {}, {"results.parquet": "abc"}, {"../results.parquet": "abc"}, "all"], ids=str
)
def test_settings_that_do_not_list_the_files_are_refused(study: Study, tmp_path: Path, files: Any) -> None:
    study.save(tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "files": files}))
    with pytest.raises(BadInput, match=r"settings\.json is truncated or corrupt \(it does not list the files"):
        Study.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("spectrum/trained/fc1", np.array(["a", "b"])),
        ("spectrum/trained/fc1", np.ones((2, 2))),
        ("cka/trained/trained", np.ones(3)),
        ("cka/trained/trained", np.ones((2, 2), complex)),
        ("umap/labels", np.array(["cat", "dog"])),
        ("umap/trained/fc1", np.ones(4)),
    ],
)
def test_arrays_of_another_kind_are_refused_by_name(study: Study, tmp_path: Path, name: str, array: np.ndarray) -> None:
    """Whatever the checksums of a folder say: its file may have been written by another program."""
    replace(study, arrays={**study.arrays, name: array}).save(tmp_path)
    with pytest.raises(BadInput, match=rf"arrays\.npz.*{name}"):
        Study.load(tmp_path)
