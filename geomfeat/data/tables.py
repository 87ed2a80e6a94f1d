"""Columns of files: .txt, .jsonl, .parquet, and data sets of Hugging Face saved to disk (Arrow), by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geomfeat.errors import BadInput, near

TEXT, LABELS, IDS, MASK, IMAGES = "text", ("label", "labels"), "input_ids", "attention_mask", ("image", "img")
SUFFIXES = (".txt", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Columns:
    """A table, where it is from, and the names of the classes that its numbers stand for, by column."""

    table: pa.Table
    where: str
    classes: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> list[str]:
        return self.table.column_names

    def values(self, name: str) -> list[Any]:
        """The values of a column; BadInput, with near names, for one that is not there, and for missing values."""
        if name not in self.names:
            raise BadInput(f"{self.where} has no column {name!r}; near: {near(name, self.names)}. {self.listed}")
        column = self.table.column(name)
        if column.null_count:
            first = column.is_null().to_pylist().index(True)
            raise BadInput(f"{self.where} lacks {column.null_count} values of {name!r}, first in sample {first}")
        return column.to_pylist()

    def texts(self, name: str) -> list[str]:
        """A column of texts; BadInput for one of another type."""
        found = self.values(name)
        if not all(isinstance(value, str) for value in found):
            raise BadInput(f"column {name!r} of {self.where} holds {self.kind(name)}, not texts. {self.listed}")
        return found

    def kind(self, name: str) -> str:
        return str(self.table.schema.field(name).type)

    @property
    def listed(self) -> str:
        """What columns there are, for a message."""
        return f"Columns: {', '.join(f'{name} ({self.kind(name)})' for name in self.names) or 'none'}"

    def text_column(self) -> str | None:
        """The column of texts by its name, or as the only one of this type."""
        words = [f.name for f in self.table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        words = [name for name in words if name not in LABELS]
        return TEXT if TEXT in words else words[0] if len(words) == 1 else None

    def label_column(self) -> str | None:
        """The column named as labels are, if it holds one value for each sample."""
        there = [name for name in LABELS if name in self.names]
        return next((name for name in there if not pa.types.is_nested(self.table.schema.field(name).type)), None)


def columns_of_file(path: Path) -> Columns:
    """The columns of a file of samples; a .txt has one, `text`, with a sample in each line.

    Raises BadInput for a missing file, another kind of file, one without samples, or one that is damaged.
    """
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{str(path)!r} is none of {', '.join(SUFFIXES)}: convert it, a sample in each line or row")
    if not path.is_file():
        raise BadInput(f"no such file: {str(path)!r}")
    read = {".txt": _lines, ".jsonl": _json_lines, ".parquet": _parquet}[path.suffix]
    try:
        table = read(path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as cause:
        raise BadInput(
            f"{str(path)!r} cannot be read as {path.suffix}: {' '.join(str(cause).split())[:300]}"
        ) from cause
    return checked(table, f"{str(path)!r}")


def checked(table: pa.Table, where: str, features: Mapping[str, Any] | None = None) -> Columns:
    """The columns with the names of their classes, from what `datasets` writes beside them; BadInput for no samples."""
    if not table.num_rows:
        raise BadInput(f"{where} holds no samples")
    noted = (table.schema.metadata or {}).get(b"huggingface")
    if features is None and noted:
        features = json.loads(noted).get("info", {}).get("features", {})
    classes = {
        name: tuple(map(str, made["names"])) for name, made in (features or {}).items()
        if isinstance(made, Mapping) and isinstance(made.get("names"), list)
    }  # fmt: skip
    return Columns(table, where, classes)


def _lines(path: Path) -> pa.Table:
    lines = path.read_text(encoding="utf-8").splitlines()
    empty = next((i for i, line in enumerate(lines, 1) if not line.strip()), None)
    if empty is not None:
        raise BadInput(f"line {empty} of {str(path)!r} is empty, and each line is a sample: remove it")
    return pa.table({TEXT: pa.array(lines, pa.string())})


def _json_lines(path: Path) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for i, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as cause:
            raise BadInput(f"line {i} of {str(path)!r} is not JSON ({cause}): give an object in each line") from cause
        if not isinstance(found, dict):
            raise BadInput(f"line {i} of {str(path)!r} holds a {type(found).__name__}: give an object in each line")
        rows.append(found)
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows], name, path) for name in names})


def _column(values: list[Any], name: str, path: Path) -> pa.Array:
    try:
        return pa.array(values)
    except pa.ArrowException as cause:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        raise BadInput(
            f"{name!r} in {str(path)!r} is of several types ({', '.join(kinds)}): give one type in all lines"
        ) from cause


def _parquet(path: Path) -> pa.Table:
    return pq.ParquetFile(path).read()


def saved_splits(folder: Path) -> dict[str, Columns]:
    """Split -> columns of what `datasets`' save_to_disk wrote; "" where the folder holds one without splits.

    Raises BadInput for a folder that is none, or half-written.
    """
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json").get("splits", [])
        return {str(name): _saved(folder / str(name)) for name in names}
    return {"": _saved(folder)}


def _saved(folder: Path) -> Columns:
    state, info = folder / "state.json", folder / "dataset_info.json"
    if not state.is_file():
        kind = "holds no state.json" if folder.is_dir() else "is no folder"
        raise BadInput(f"{str(folder)!r} {kind}: name a folder that dataset.save_to_disk wrote, or copy it again")
    there = _json(state)
    if there.get("_indices_files") or there.get("_indices_data_files"):
        raise BadInput(f"{str(folder)!r} holds a choice of rows: save dataset.flatten_indices().save_to_disk(FOLDER)")
    files = [folder / str(part.get("filename")) for part in there.get("_data_files") or []]
    lost = [file.name for file in files if not file.is_file()]
    if lost or not files:
        raise BadInput(f"{state} lists {lost[0] if lost else 'no files'}, which is missing: copy the whole folder")
    tables = []
    for file in files:
        try:
            with pa.memory_map(str(file)) as opened, pa.ipc.open_stream(opened) as stream:
                tables.append(stream.read_all())
        except (OSError, pa.ArrowException) as cause:
            raise BadInput(f"{str(file)!r} is half-written or damaged ({cause}): copy it again") from cause
    features = _json(info).get("features") if info.is_file() else None
    return checked(pa.concat_tables(tables), f"{str(folder)!r}", features)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise BadInput(f"{path} is not JSON ({cause}): it is half-written or damaged; copy it again") from cause
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds a {type(found).__name__}, not an object: copy it again")
    return found
