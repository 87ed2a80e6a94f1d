"""Files that are written atomically, and folders of them that are finished when their settings file exists.

Each file is written under another name and renamed; the settings come last, with the SHA-256 of the others, so that
damage is noticed (parquet readers answer a flipped bit with anything from another number to an internal error).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geomfeat.errors import BadInput
from geomfeat.storage.npz_files import UNREADABLE, first_line
from geomfeat.storage.owned_files import MADE_BY, MARK, json_text, make_folder, require_own, temporary_for, writing

DAMAGED = (*UNREADABLE, pa.ArrowException)


@dataclass(frozen=True)
class SavedFolder:
    """A kind of folder: what it holds ("study"), its command, its files, the one with the settings, and what to do
    where it is not finished."""

    kind: str
    command: str
    files: Sequence[str]
    settings: str
    remedy: str

    def write(self, folder: Path, writers: Mapping[str, Callable[[Path], Any]], settings: Mapping[str, Any]) -> None:
        """Fill `folder`, making it if needed and replacing what is there: one writer a file, and the settings.

        All files are written under other names before the first takes its place, so that a full disk costs nothing.

        Raises OutputExists, before anything is written, where one of the files is not geomfeat's; WriteFailed that
        names the file for a full disk.
        """
        self.require_replaceable(folder)
        make_folder(folder)
        drafts = {name: temporary_for(folder / name) for name in (*writers, self.settings)}
        try:
            for name, write in writers.items():
                with writing(folder / name):
                    write(drafts[name])
            sums = {name: file_sha256(drafts[name]) for name in self.files if name != self.settings}
            content = json_text({**settings, "files": sums}, indent=2, default=str)
            with writing(folder / self.settings):
                drafts[self.settings].write_text(content, encoding="utf-8")
                (folder / self.settings).unlink(missing_ok=True)  # from here until the end the folder is not finished
                for name, draft in drafts.items():
                    os.replace(draft, folder / name)
        finally:
            for draft in drafts.values():
                draft.unlink(missing_ok=True)

    def require_replaceable(self, folder: Path) -> None:
        """OutputExists that names a file in `folder`, with the name of one of these, that geomfeat did not write."""
        require_own(folder / name for name in self.files)

    def open(self, folder: Path) -> dict[str, Any]:
        """The settings of a finished folder; BadInput that names the file when one is missing, truncated or corrupt."""
        missing = [name for name in self.files if not (folder / name).is_file()]
        if missing:
            raise BadInput(f"{folder} holds no finished {self.kind}: {', '.join(missing)} missing. {self.remedy}")
        settings = self.read(folder / self.settings, read_json)
        sums = settings.pop("files", None)
        if not isinstance(sums, dict) or set(sums) != {*self.files} - {self.settings}:
            raise self._damaged(folder / self.settings, "it does not list the files of the folder")
        for name, expected in sums.items():
            if file_sha256(folder / name) != expected:
                raise self._damaged(folder / name, f"its checksum is not the one in {self.settings}")
        return settings

    def read(self, path: Path, reader: Callable[[Path], Any]) -> Any:
        """What `reader` makes of a file; BadInput where it cannot."""
        try:
            return reader(path)
        except DAMAGED as cause:
            raise self._damaged(path, first_line(cause)) from cause

    def _damaged(self, path: Path, how: str) -> BadInput:
        return BadInput(
            f"{path} is truncated or corrupt ({how}): delete it and run the same geomfeat {self.command} command again"
        )


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """A table as Parquet with the mark of geomfeat, at exactly this path."""
    content = pa.Table.from_pandas(table, preserve_index=False)
    # pyarrow and pandas take a leading "~" for the home folder, and it may be the name of one here.
    pq.write_table(marked_table(content), path.absolute())


def marked_table(content: pa.Table) -> pa.Table:
    """The table with the mark of geomfeat in its schema."""
    return content.replace_schema_metadata({MADE_BY.encode(): MARK.encode(), **(content.schema.metadata or {})})


def read_parquet(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """A table that has at least these columns, each of its kind: "text", "number", "flag" or "any".

    Raises ValueError that names what is missing or of another kind, and what pyarrow raises for damaged files.
    """
    table = pd.read_parquet(path.absolute())
    require_columns(table, columns)
    return table


def require_columns(table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """ValueError that names the columns that are missing, or hold another kind of value; see `read_parquet`."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"it lacks the columns {', '.join(missing[:8])}")
    fits: dict[str, Callable[[Any], bool]] = {
        "text": lambda c: pd.api.types.is_string_dtype(c) or c.isna().all(),
        "number": lambda c: pd.api.types.is_numeric_dtype(c) and not pd.api.types.is_bool_dtype(c),
        "flag": pd.api.types.is_bool_dtype, "any": lambda _: True,
    }  # fmt: skip
    wrong = [name for name, kind in columns.items() if len(table) and not fits[kind](table[name])]
    if wrong:
        raise ValueError(f"column {wrong[0]} holds {table[wrong[0]].dtype}, and {columns[wrong[0]]} is expected")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, without geomfeat's mark; ValueError for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as cause:
        raise ValueError("it is nested too deeply") from cause
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object was expected, found {type(value).__name__}")
    return {key: inner for key, inner in value.items() if key != MADE_BY}


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
