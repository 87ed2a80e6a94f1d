"""The folder of a run: whole or not there, damage noticed, one writer at a time, also when processes are killed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from geomfeat.comparison.sweeps.folder import (
    CLAIMS,
    MANIFEST,
    PARTIAL,
    RUNS,
    TABLE,
    Damaged,
    address_of,
    claimed,
    is_finished,
    manifest_of,
    read_table,
    write_run,
    write_table,
)
from geomfeat.errors import OutputExists, WriteFailed
from geomfeat.study.table import row, table_of
from geomfeat.types import Estimate
from tests.warm_process import start_script

CONFIG = {"width": 8, "sigma": 0.1}
ADDRESS = address_of("1", json.dumps(CONFIG, sort_keys=True))
WEIGHTS = "init.safetensors"
ROWS = [row("stable_rank", Estimate(value), at="trained", measure="stable_rank") for value in (1.5, 2.0)]
FRAME = table_of(ROWS, run=ADDRESS, seed=0, conditions={"width": 8, "outcome": "matched"}, version="1")


def written(root: Path, value: float = 1.0, address: str = ADDRESS) -> Path:
    writers = {TABLE: lambda path: write_table(path, FRAME), WEIGHTS: lambda path: path.write_bytes(b"w" * 100)}
    return write_run(root, address, writers, {"version": "1", "config": CONFIG, "value": value})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    folder = written(tmp_path)
    manifest = manifest_of(tmp_path, ADDRESS)
    assert manifest is not None
    assert (manifest["value"], sorted(manifest["files"])) == (1.0, [WEIGHTS, TABLE])
    pd.testing.assert_frame_equal(read_table(tmp_path, ADDRESS).to_pandas(), FRAME)
    assert sorted(p.name for p in folder.iterdir()) == sorted([TABLE, WEIGHTS, MANIFEST])
    assert list((tmp_path / PARTIAL).iterdir()) == []


def test_a_run_that_is_not_there_is_not_damaged(tmp_path: Path) -> None:
    assert manifest_of(tmp_path, ADDRESS) is None
    assert not is_finished(tmp_path, ADDRESS)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        (TABLE, cut), (TABLE, flip), (TABLE, Path.unlink), (WEIGHTS, cut), (WEIGHTS, flip), (WEIGHTS, Path.unlink),
        (MANIFEST, cut), (MANIFEST, Path.unlink), (MANIFEST, lambda path: path.write_text("{}")),
        (MANIFEST, lambda path: path.write_text('{"format": 1, "files": 3}')),
    ],
)  # fmt: skip
def test_damage_is_noticed_and_a_damaged_run_is_replaced(tmp_path: Path, name: str, harm: Any) -> None:
    folder = written(tmp_path, 1.0)
    harm(folder / name)
    with pytest.raises(Damaged):
        manifest_of(tmp_path, ADDRESS)
    if name == TABLE:
        with pytest.raises(Damaged):
            read_table(tmp_path, ADDRESS)
    written(tmp_path, 2.0)
    manifest = manifest_of(tmp_path, ADDRESS)
    assert manifest is not None
    assert manifest["value"] == 2.0
    assert list((tmp_path / PARTIAL).iterdir()) == []


def test_a_whole_run_is_kept_where_another_process_was_first(tmp_path: Path) -> None:
    written(tmp_path, 1.0)
    written(tmp_path, 2.0)
    manifest = manifest_of(tmp_path, ADDRESS)
    assert manifest is not None
    assert manifest["value"] == 1.0
    assert list((tmp_path / PARTIAL).iterdir()) == []


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(WriteFailed, match=f"{ADDRESS} cannot be written: No space left on device"):
        write_run(tmp_path, ADDRESS, {TABLE: full}, {})
    assert not (tmp_path / RUNS / ADDRESS).exists()
    assert list((tmp_path / PARTIAL).iterdir()) == []


HOLD = """
import sys, time
from pathlib import Path
from geomfeat.comparison.sweeps.folder import PARTIAL, claimed
root = Path(sys.argv[1])
with claimed(root, sys.argv[2], wait=False) as mine:
    (root / PARTIAL / f"{sys.argv[2]}.half").mkdir(parents=True)
    (root / "held").write_text(str(mine))
    time.sleep(60)
"""


def test_a_claim_ends_with_its_process_and_what_that_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "hold.py").write_text(HOLD, encoding="utf-8")
    holder = start_script(tmp_path / "hold.py", tmp_path, tmp_path, ADDRESS)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "held").is_file() and time.monotonic() < until:
            time.sleep(0.05)
        assert (tmp_path / "held").read_text() == "True"
        with claimed(tmp_path, ADDRESS, wait=False) as mine:
            assert not mine
        assert (tmp_path / PARTIAL / f"{ADDRESS}.half").is_dir()
    finally:
        holder.process.kill()
        holder.process.join()
    with claimed(tmp_path, ADDRESS, wait=False) as mine:
        assert mine
        assert not (tmp_path / PARTIAL / f"{ADDRESS}.half").exists()
        written(tmp_path)
    assert list((tmp_path / CLAIMS).iterdir()) == []


def test_a_format_of_another_time_is_reported(tmp_path: Path) -> None:
    folder = written(tmp_path)
    saved = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**saved, "format": 99}))
    with pytest.raises(Damaged, match="has format 99, and this version reads 1"):
        manifest_of(tmp_path, ADDRESS)


@pytest.mark.parametrize(
    "changes",
    [{"version": "2"}, {"config": {**CONFIG, "width": 9}}, {"address": "0" * 20}, {"version": None}, {"config": None},
     {"files": {}}, {"files": {"../table.arrow": [1, "a"]}}, {"files": {TABLE: [1, "a"], "../w": [1, "a"]}}],
    ids=str,
)  # fmt: skip
def test_a_manifest_of_another_run_is_damage(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = written(tmp_path)
    saved = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**saved, **changes}))
    with pytest.raises(Damaged, match=str(folder)):
        manifest_of(tmp_path, ADDRESS)
    with pytest.raises(Damaged, match=str(folder)):
        read_table(tmp_path, ADDRESS)
    assert not is_finished(tmp_path, ADDRESS)


@pytest.mark.parametrize("name", ["notes.txt", "init.safetensors.bak", "deep/notes.txt", "step_x.safetensors"])
def test_a_damaged_run_with_a_file_of_the_users_is_not_replaced(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path)
    (folder / TABLE).unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    with pytest.raises(OutputExists, match="was not written by geomfeat"):
        written(tmp_path, 2.0)
    assert (folder / name).read_text() == "mine"
    assert (folder / WEIGHTS).is_file()
    assert list((tmp_path / PARTIAL).iterdir()) == []


def test_what_a_killed_process_left_is_removed_but_for_a_file_of_the_users(tmp_path: Path) -> None:
    left = tmp_path / PARTIAL / f"{ADDRESS}.host.0"
    left.mkdir(parents=True)
    (left / "notes.txt").write_text("mine")
    with (
        pytest.raises(OutputExists, match=r"notes\.txt was not written by geomfeat"),
        claimed(tmp_path, ADDRESS, wait=False),
    ):
        pass
    assert (left / "notes.txt").read_text() == "mine"
    (left / "notes.txt").unlink()
    with claimed(tmp_path, ADDRESS, wait=False) as mine:
        assert mine
    assert not left.exists()


def test_a_file_in_the_place_of_a_lock_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / CLAIMS).mkdir()
    (tmp_path / CLAIMS / ADDRESS).write_text("mine")
    with claimed(tmp_path, ADDRESS, wait=False) as mine:
        assert mine
        written(tmp_path)
    assert (tmp_path / CLAIMS / ADDRESS).read_text() == "mine"
