"""Files that are written whole or not at all, and folders of them that are finished when their settings are there.

Each file is written under another name and renamed; the settings come last, with the SHA-256 of the others, so that
damage is noticed (parquet readers answer a flipped bit with anything from another number to an internal error).
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.errors import BadInput


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
        """Fill `folder`, making it if needed and replacing what is there: one writer a file, and the settings."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.settings).unlink(missing_ok=True)  # from here until the end the folder is not finished
        for name, write in writers.items():
            replace_file(folder / name, write)
        sums = {name: file_sha256(folder / name) for name in self.files if name != self.settings}
        told = json.dumps({**settings, "files": sums}, indent=2, default=str)
        replace_file(folder / self.settings, lambda path: path.write_text(told, encoding="utf-8"))

    def open(self, folder: Path) -> dict[str, Any]:
        """The settings of a finished folder; BadInput that names the file when one is missing, truncated or corrupt."""
        missing = [name for name in self.files if not (folder / name).is_file()]
        if missing:
            raise BadInput(f"{folder} holds no finished {self.kind}: {', '.join(missing)} missing. {self.remedy}")
        settings = self.read(folder / self.settings, read_json)
        for name, expected in settings.pop("files", {}).items():
            if file_sha256(folder / name) != expected:
                raise self._damaged(folder / name, f"its checksum is not the one in {self.settings}")
        return settings

    def read(self, path: Path, reader: Callable[[Path], Any]) -> Any:
        """What `reader` makes of a file; BadInput where it cannot."""
        try:
            return reader(path)
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as cause:
            raise self._damaged(path, (str(cause).splitlines() or [type(cause).__name__])[0]) from cause

    def _damaged(self, path: Path, how: str) -> BadInput:
        return BadInput(
            f"{path} is truncated or corrupt ({how}): delete it and run the same geomfeat {self.command} command again"
        )


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all: `write` fills another name in the same folder, which then takes its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An `.npz` of named numeric arrays, at exactly this path."""
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, without pickle."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ValueError for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as cause:
        raise ValueError("it is nested too deeply") from cause
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object was expected, found {type(value).__name__}")
    return value


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
