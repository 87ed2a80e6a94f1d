"""Columns of text files and saved data sets, by name, and files that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geomfeat.data.tables import columns_of_file, saved_splits
from geomfeat.errors import BadInput

ROWS = [{"text": "a cat", "label": "yes"}, {"text": "a dog", "label": "no"}, {"text": "é\u2028e", "label": "yes"}]


def saved(folder: Path, table: pa.Table, files: int = 1, features: Any = None) -> Path:
    """What `save_to_disk` of datasets writes."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{files:05d}.arrow" for i in range(files)]
    for i, name in enumerate(names):
        part = table.slice(i * table.num_rows // files, table.num_rows // files)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features or {}}))
    return folder


def test_the_three_kinds_of_files_hold_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("a cat\na dog\n")
    for name in ("a.jsonl", "a.parquet"):
        found = columns_of_file(tmp_path / name)
        assert found.texts("text") == [row["text"] for row in ROWS]
        assert found.values("label") == ["yes", "no", "yes"]
        assert (found.text_column(), found.label_column()) == ("text", "label")
    assert columns_of_file(tmp_path / "a.txt").texts("text") == ["a cat", "a dog"]


def test_the_only_column_of_words_is_the_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"], "n": [1], "labels": [[1, 2]]}), tmp_path / "a.parquet")
    found = columns_of_file(tmp_path / "a.parquet")
    assert (found.text_column(), found.label_column()) == ("body", None)
    pq.write_table(pa.table({"body": ["x"], "title": ["y"]}), tmp_path / "b.parquet")
    assert columns_of_file(tmp_path / "b.parquet").text_column() is None


def test_names_of_classes_come_from_what_datasets_notes(tmp_path: Path) -> None:
    noted = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "text": {}}}}
    table = pa.table({"text": ["x", "y"], "label": [1, 0]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(noted)}), tmp_path / "a.parquet")
    assert columns_of_file(tmp_path / "a.parquet").classes == {"label": ("no", "yes")}
    folder = saved(tmp_path / "one", table, features=noted["info"]["features"])
    assert saved_splits(folder)[""].classes == {"label": ("no", "yes")}


def test_saved_data_in_several_files_and_splits(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c", "d"]})
    saved(tmp_path / "all" / "train", table, files=2)
    saved(tmp_path / "all" / "test", table.slice(0, 1))
    (tmp_path / "all" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    parts = saved_splits(tmp_path / "all")
    assert {name: part.texts("text") for name, part in parts.items()} == {"train": ["a", "b", "c", "d"], "test": ["a"]}


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("latin1"))
    return path


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "x", r"is none of \.txt, \.jsonl, \.parquet"),
        ("a.txt", "x\n\ny\n", "line 2 of .* is empty"),
        ("a.txt", "", "holds no samples"),
        ("a.txt", "\xff\xfe", "cannot be read as .txt: .*decode"),
        ("a.jsonl", '{"a": 1}\n{"a": ', "line 2 of .* is not JSON"),
        ("a.jsonl", '{"a": 1}\n[1]', "line 2 of .* holds a list: give an object"),
        ("a.jsonl", '{"a": 1}\n{"a": "x"}', r"'a' in .* is of several types \(int, str\)"),
        ("a.jsonl", "\n", "holds no samples"),
        ("a.parquet", "PAR1", "cannot be read as .parquet"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        columns_of_file(write(tmp_path / name, text))
    with pytest.raises(BadInput, match="no such file"):
        columns_of_file(tmp_path / "none.txt")


def test_columns_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "n": 1}\n{"text": null, "n": 2}\n')
    found = columns_of_file(tmp_path / "a.jsonl")
    with pytest.raises(BadInput, match=r"no column 'txt'; near: text\. Columns: text \(string\), n \(int64\)"):
        found.values("txt")
    with pytest.raises(BadInput, match="lacks 1 values of 'text', first in sample 1"):
        found.texts("text")
    with pytest.raises(BadInput, match=r"column 'n' .* holds int64, not texts"):
        found.texts("n")


def test_saved_data_that_is_half_written(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one", pa.table({"text": ["a", "b"]}), files=2)
    last = folder / "data-00001-of-00002.arrow"
    last.write_bytes(last.read_bytes()[:40])
    with pytest.raises(BadInput, match=r"data-00001-of-00002\.arrow' is half-written or damaged"):
        saved_splits(folder)
    last.unlink()
    with pytest.raises(BadInput, match=r"lists data-00001-of-00002\.arrow, which is missing"):
        saved_splits(folder)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"_indices_files": [{"filename": "i.arrow"}]}))
    with pytest.raises(BadInput, match=r"flatten_indices\(\)"):
        saved_splits(folder)
    (folder / "state.json").write_text("{")
    with pytest.raises(BadInput, match=r"state\.json is not JSON"):
        saved_splits(folder)
    with pytest.raises(BadInput, match=r"is no folder: name a folder that dataset\.save_to_disk wrote"):
        saved_splits(tmp_path / "none")
