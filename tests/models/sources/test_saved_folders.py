"""Folders that are half-written, half-copied, pickled, or something else: each is refused by what it lacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.models.sources import load_model
from geomfeat.models.sources.saved_folders import checkpoint_folders, content_files
from tests.models.sources.tiny import gpt

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt(tmp_path_factory.mktemp("parts"), max_shard_size="10KB")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt(tmp_path_factory.mktemp("whole"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


OF_ONE_FILE: dict[str, tuple[Damage, str]] = {
    "no folder": (shutil.rmtree, r"no such folder. Nothing is downloaded"),
    "no config": (lambda f: (f / "config.json").unlink(), r"holds no config.json \(there: generation_config.json, mod"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"half-written or half-copied"),
    "cut weights": (lambda f: cut(f / "model.safetensors"), r"model.safetensors' \(\d+ bytes; .*half-written"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), r"\(0 bytes; .*half-written"),
    "cut config": (lambda f: cut(f / "config.json"), r"config.json is not JSON .*half-written"),
    "pickle": (pickled, r"pytorch_model.bin, a pickle, .*save_pretrained\(FOLDER\), or name the file as the weights"),
    "other library": (
        lambda f: (f / "model.safetensors").rename(f / "tf_model.h5"), r"tf_model.h5 alone: save it again from torch"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OF_ONE_FILE)
def test_damaged_folders(whole: Path, tmp_path: Path, case: str) -> None:
    damage, words = OF_ONE_FILE[case]
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    damage(copy)
    with pytest.raises(BadInput, match=words):
        load_model(f"hf:{copy}")


def test_a_missing_shard_is_named(parts: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(parts, tmp_path / "copy"))
    shard = sorted(copy.glob("model-0*"))[1]
    shard.unlink()
    with pytest.raises(BadInput, match=rf"lists {shard.name}, which is missing: copy the whole folder"):
        load_model(f"hf:{copy}")


def test_a_cut_shard_is_named(parts: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(parts, tmp_path / "copy"))
    shard = sorted(copy.glob("model-0*"))[1]
    cut(shard)
    with pytest.raises(BadInput, match=rf"{shard.name}' \(\d+ bytes"):
        load_model(f"hf:{copy}")


def test_a_run_of_checkpoints_is_not_one_model(whole: Path, tmp_path: Path) -> None:
    for step in (100, 20):
        shutil.copytree(whole, tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-last").mkdir()
    assert [p.name for p in checkpoint_folders(tmp_path)] == ["checkpoint-20", "checkpoint-100"]
    with pytest.raises(BadInput, match=r"checkpoint-20, checkpoint-100 do: name one, hf:.*checkpoint-100"):
        load_model(f"hf:{tmp_path}")
    load_model(f"hf:{tmp_path / 'checkpoint-20'}")


def test_a_file_in_place_of_the_folder(whole: Path) -> None:
    with pytest.raises(BadInput, match="it is a file: name the folder"):
        load_model(f"hf:{whole / 'config.json'}")


def test_what_decides_a_model_is_in_its_folder_alone(whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    shutil.copytree(whole, copy / "checkpoint-1")
    (copy / "optimizer.pt").write_bytes(b"")
    assert {p.name for p in content_files(copy)} == {p.name for p in whole.iterdir()}
    (copy / "modules.json").write_text(json.dumps([{"path": "checkpoint-1", "type": "models.Transformer"}]))
    assert {p.parent.name for p in content_files(copy)} == {"checkpoint-1"}
