"""Saving and loading a study: everything comes back; missing, truncated and corrupt files are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geomfeat.diagnostics.location import Location
from geomfeat.errors import BadInput, WriteFailed
from geomfeat.owned import replace_file
from geomfeat.study.result import FILES, Study
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


def test_a_save_that_breaks_leaves_no_finished_study_and_no_scraps(
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
    with pytest.raises(BadInput, match=r"settings\.json missing"):
        Study.load(tmp_path)


def test_replacing_a_file_is_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")

    def write(path: Path) -> None:
        path.write_text("hal")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(target, write)
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]
