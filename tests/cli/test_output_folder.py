"""Output folders and folders of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from geomfeat.cli._output_folder import first_difference, is_finished, numbered_checkpoints
from geomfeat.errors import BadInput, OutputExists
from geomfeat.storage.atomic import read_parquet, write_parquet
from geomfeat.study.result import FILES

REQUEST = {"seed": 0, "layers": None}


def filled(folder: Path, request: object) -> Path:
    for name in FILES:
        (folder / name).write_text("")
    (folder / "settings.json").write_text(json.dumps({"request": request}))
    return folder


def test_an_empty_or_missing_folder_is_to_be_filled(tmp_path: Path) -> None:
    assert not is_finished(tmp_path, REQUEST, force=False)
    assert not is_finished(tmp_path / "none", REQUEST, force=False)


def test_the_same_request_is_finished(tmp_path: Path) -> None:
    assert is_finished(filled(tmp_path, REQUEST), REQUEST, force=False)
    assert not is_finished(tmp_path, REQUEST, force=True), "force makes them again"


def test_a_file_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    (filled(tmp_path, REQUEST) / "arrays.npz").unlink()
    assert not is_finished(tmp_path, REQUEST, force=False)


@pytest.mark.parametrize("other", [{"seed": 1, "layers": None}, {"seed": 0}, {**REQUEST, "more": 1}, None])
def test_another_request_is_refused_and_force_goes_on(tmp_path: Path, other: object) -> None:
    filled(tmp_path, other)
    if other == {"seed": 0}:  # a setting that is absent is one that is not set
        assert is_finished(tmp_path, REQUEST, force=False)
        return
    with pytest.raises(OutputExists, match="--force"):
        is_finished(tmp_path, REQUEST, force=False)
    assert not is_finished(tmp_path, REQUEST, force=True)


def test_settings_that_cannot_be_read_are_refused_and_force_goes_on(tmp_path: Path) -> None:
    (filled(tmp_path, REQUEST) / "settings.json").write_text('{"request"')
    with pytest.raises(OutputExists, match=r"settings\.json cannot be read"):
        is_finished(tmp_path, REQUEST, force=False)
    assert not is_finished(tmp_path, REQUEST, force=True)


def test_the_first_setting_that_differs_is_named_in_short() -> None:
    assert first_difference({"a": 1, "b": [1]}, {"a": 1, "b": [2]}) == ("b", "[1]", "[2]")
    assert first_difference({"a": "x" * 99}, {}) == ("a", f'"{"x" * 56}...', "null")
    assert first_difference({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}) is None


def test_checkpoints_are_ordered_by_the_last_number_of_their_names(tmp_path: Path) -> None:
    for name in ("net3_step_1000.safetensors", "net3_step_20.pt", "notes.txt"):
        (tmp_path / name).touch()
    assert [(k, v.name) for k, v in numbered_checkpoints(tmp_path).items()] == [
        (20, "net3_step_20.pt"), (1000, "net3_step_1000.safetensors"),
    ]  # fmt: skip


def test_folders_of_save_pretrained_are_checkpoints(tmp_path: Path) -> None:
    for step, name in ((500, "model.safetensors"), (1000, "pytorch_model.bin.index.json")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / name).touch()
    (tmp_path / "logs-3").mkdir()
    found = numbered_checkpoints(tmp_path)
    assert [(k, v.name) for k, v in found.items()] == [(500, "checkpoint-500"), (1000, "checkpoint-1000")]


@pytest.mark.parametrize(
    ("names", "why"),
    [([], "holds no .safetensors"), (["notes.txt"], "holds no .safetensors"),
     (["last.pt"], "'last.pt' has no step number"),
     (["a_7.pt", "b_07.pt"], "'a_7.pt' and 'b_07.pt' both have step 7")],
)  # fmt: skip
def test_folders_that_are_no_series_are_refused(tmp_path: Path, names: list[str], why: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(BadInput, match=why):
        numbered_checkpoints(tmp_path)


def test_a_folder_may_be_named_like_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow and pandas take a leading "~" of a relative path for the user's home."""
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"value": [1.0, 2.0]})
    Path("~").mkdir()
    write_parquet(Path("~") / "table.parquet", table)
    assert read_parquet(Path("~") / "table.parquet", {"value": "number"}).value.tolist() == [1.0, 2.0]
    assert [p.name for p in (tmp_path / "~").iterdir()] == ["table.parquet"]


def test_of_a_run_of_the_trainer_its_checkpoints_are_the_series(tmp_path: Path) -> None:
    for name, file in (("checkpoint-100", "model.safetensors"), ("checkpoint-20", "adapter_model.safetensors")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(b"")
    for name in ("model-00001-of-00002.safetensors", "model.safetensors"):
        (tmp_path / name).write_bytes(b"")
    assert [(k, v.name) for k, v in numbered_checkpoints(tmp_path).items()] == [
        (20, "checkpoint-20"), (100, "checkpoint-100")
    ]  # fmt: skip
    assert numbered_checkpoints(Path(f"hf:{tmp_path}")) == numbered_checkpoints(tmp_path)


def test_a_half_written_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-20").mkdir()
    (tmp_path / "checkpoint-20" / "trainer_state.json").write_text("{}")
    with pytest.raises(BadInput, match=r"checkpoint-20 in .* holds no weights, it is half-written"):
        numbered_checkpoints(tmp_path)
