"""Finished parts: addressed by content, whole or not there, surviving an interruption in mid-write."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput, OutputExists, WriteFailed
from geomfeat.study.part_cache import FINISHED, Parts, fingerprint, remove_parts, require_parts


def test_what_differs_has_another_address() -> None:
    t = torch.arange(6.0)
    things = [
        t, t + 1e-6, t.reshape(2, 3), t.double(), t.int(), t[:5], {"a": t}, {"b": t}, [t], [t, t], (), "a", "1", 1,
        1.0, None, True, {"a": {"b": 1}}, {"a": {"c": 1}}, [["a"], "b"], [["a", "b"]], torch.zeros(0),
    ]  # fmt: skip
    assert len({fingerprint(thing) for thing in things}) == len(things)


def test_what_is_the_same_has_the_same_address() -> None:
    t = torch.randn(4, 6)
    assert fingerprint(t) == fingerprint(t.clone()) == fingerprint(t.numpy()) == fingerprint(t.mT.contiguous().mT)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_a_module_is_its_weights_and_buffers() -> None:
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    assert fingerprint(a) == fingerprint(b)
    b.running_mean += 1  # type: ignore[operator]
    assert fingerprint(a) != fingerprint(b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int64, torch.complex64])
def test_every_kind_of_tensor_has_an_address(dtype: torch.dtype) -> None:
    assert fingerprint(torch.ones(3).to(dtype)) != fingerprint(torch.zeros(3).to(dtype))


def test_parts_come_back_in_another_process(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    parts.put("a", [{"value": float("nan"), "n": 3}])
    parts.put_arrays("b" * 64, {"x": np.arange(3)})
    again = Parts(tmp_path / "parts")
    assert again.get("a")[0]["n"] == 3
    kept = again.get_arrays("b" * 64)
    assert kept is not None
    np.testing.assert_array_equal(kept["x"], np.arange(3))
    assert again.get("c") is None
    assert again.get_arrays("c" * 64) is None


def test_nothing_is_written_before_something_is_finished(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    assert parts.get("a") is None
    assert not (tmp_path / "parts").exists()


def test_a_line_that_was_cut_off_costs_that_part_only(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.put("a", 1)
    parts.put("b", 2)
    file = tmp_path / FINISHED
    file.write_bytes(file.read_bytes()[:-4])
    again = Parts(tmp_path)
    assert (again.get("a"), again.get("b")) == (1, None)
    again.put("c", 3)
    last = Parts(tmp_path)
    assert [last.get(k) for k in "abc"] == [1, None, 3], "a new part does not end up on the line that was cut off"


def test_without_a_folder_nothing_is_kept() -> None:
    parts = Parts()
    parts.put("a", 1)
    parts.put_arrays("a", {"x": np.ones(1)})
    assert parts.get("a") is None
    assert parts.get_arrays("a") is None


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "other"])
def test_arrays_that_are_damaged_or_of_another_part_are_made_again(tmp_path: Path, harm: str) -> None:
    parts, one, two = Parts(tmp_path), "a" * 64, "b" * 64
    parts.put_arrays(one, {"x": np.arange(3)})
    parts.put_arrays(two, {"x": np.arange(4)})
    path = tmp_path / f"{'b' * 32}.npz"
    whole = path.read_bytes()
    if harm == "other":
        shutil.copy(tmp_path / f"{'a' * 32}.npz", path)
    else:
        changed = whole[:20] + bytes(40) + whole[60:]
        path.write_bytes({"cut": whole[: len(whole) // 2], "flip": changed, "empty": b""}[harm])
    assert parts.get_arrays(two) is None
    parts.put_arrays(two, {"x": np.arange(4)})
    assert len(parts.get_arrays(two)["x"]) == 4  # type: ignore[index]
    assert len(parts.get_arrays(one)["x"]) == 3  # type: ignore[index]


@pytest.mark.parametrize(
    "line", ["[" * 100_000, "3", "null", '[["a"], 1]', '"ab"', '["a"]', '["a", 1, 2]', "\xff\xfe", "{}"]
)
def test_lines_that_are_no_parts_cost_nothing_else(tmp_path: Path, line: str) -> None:
    Parts(tmp_path).put("a", 1)
    with (tmp_path / FINISHED).open("ab") as file:
        file.write(line.encode("latin1") + b"\n")
    parts = Parts(tmp_path)
    parts.put("c", 3)
    again = Parts(tmp_path)
    assert (again.get("a"), again.get("c")) == (1, 3)


def test_a_file_of_the_users_is_not_added_to(tmp_path: Path) -> None:
    (tmp_path / FINISHED).write_text('{"mine": 1}\n')
    with pytest.raises(OutputExists, match=r"finished\.jsonl was not written by geomfeat"):
        Parts(tmp_path)
    assert (tmp_path / FINISHED).read_text() == '{"mine": 1}\n'


@pytest.mark.parametrize("name", ["notes.txt", "data.npz", f"{'a' * 31}.npz", "deep/a.npz"])
def test_a_folder_with_a_file_of_the_users_is_not_removed(tmp_path: Path, name: str) -> None:
    parts = Parts(tmp_path / "parts")
    parts.put("a", 1)
    parts.put_arrays("a" * 64, {"x": np.ones(1)})
    mine = tmp_path / "parts" / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    for refuse in (require_parts, remove_parts):
        with pytest.raises(OutputExists, match="was not written by geomfeat"):
            refuse(tmp_path / "parts")
    assert mine.read_text() == "mine"
    assert Parts(tmp_path / "parts").get("a") == 1
    mine.unlink()
    if name.startswith("deep"):
        mine.parent.rmdir()
    remove_parts(tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    remove_parts(tmp_path / "parts")


@pytest.mark.parametrize("content", [b"mine", b"PK\x03\x04 mine", None])
@pytest.mark.parametrize("after", [False, True])
def test_a_file_of_the_users_with_the_name_of_a_part_stays(tmp_path: Path, content: bytes | None, after: bool) -> None:
    folder, key = tmp_path / "parts", "a" * 64
    mine = folder / f"{key[:32]}.npz"
    parts = Parts(folder)
    parts.put("a", 1)
    if after:
        parts.put_arrays(key, {"x": np.arange(3)})
    if content is None:
        np.savez_compressed(mine, x=np.arange(3) + 5)
    else:
        mine.write_bytes(content)
    before = mine.read_bytes()
    again = Parts(folder)
    for refuse in (
        lambda: again.get_arrays(key), lambda: again.put_arrays(key, {"x": np.arange(3)}),
        lambda: require_parts(folder), lambda: remove_parts(folder),
    ):  # fmt: skip
        with pytest.raises(OutputExists, match=r"a{32}\.npz was not written by geomfeat"):
            refuse()
    assert mine.read_bytes() == before


@pytest.mark.parametrize("left", [0, 1, 20, 60, -30])
def test_arrays_that_were_cut_off_are_known_in_another_process(tmp_path: Path, left: int) -> None:
    folder, key = tmp_path / "parts", "a" * 64
    Parts(folder).put_arrays(key, {"x": np.arange(3)})
    path = folder / f"{key[:32]}.npz"
    path.write_bytes(path.read_bytes()[:left])
    again = Parts(folder)
    assert again.get_arrays(key) is None
    again.put_arrays(key, {"x": np.arange(3)})
    path.write_bytes(path.read_bytes()[:left])
    remove_parts(folder)
    assert not folder.exists()


def test_a_folder_that_is_a_file_or_empty_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match=r"resume=.* is a file: name a folder"):
        Parts(tmp_path / "file")
    with pytest.raises(BadInput, match="resume='' names nothing"):
        Parts("")


def test_a_full_disk_adds_nothing_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(tmp_path)
    parts.put("a", 1)
    before = (tmp_path / FINISHED).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteFailed, match=r"finished\.jsonl cannot be written: No space left"):
        parts.put("b", "long " * 1000)
    assert parts.get("b") is None
    assert (tmp_path / FINISHED).read_bytes() == before
    fresh = Parts(tmp_path / "fresh")
    with pytest.raises(WriteFailed, match="No space left"):
        fresh.put("a", 1)
    monkeypatch.undo()
    again = Parts(tmp_path / "fresh")
    again.put("a", 1)
    assert Parts(tmp_path / "fresh").get("a") == 1
    remove_parts(tmp_path / "fresh")
