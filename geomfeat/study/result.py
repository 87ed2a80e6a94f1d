"""What a study gives: the tidy table, the location and the arrays behind the pictures; saved to a folder and back.

On disk four files: `results.parquet`, `location.json`, `arrays.npz`, `settings.json`. Each is written under another
name and renamed, `settings.json` last and with the SHA-256 of the others: a folder with settings is a finished study,
and damage is noticed (parquet readers answer a flipped bit with anything from another number to an internal error).
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from geomfeat.diagnostics.location import Location
from geomfeat.errors import BadInput

TABLE, LOCATION, ARRAYS, SETTINGS = "results.parquet", "location.json", "arrays.npz", "settings.json"
FILES = (TABLE, LOCATION, ARRAYS, SETTINGS)


@dataclass(frozen=True, eq=False)
class Study:
    """The measured geometry of one model.

    Attributes:
        name: of the model; also the table's `run`.
        table: one row per number (columns: see `geomfeat.study.table`). A failure is a row with ok False and a note.
        location: where the model sits between lazy and rich; None where it could not be told (the table says why).
        arrays: "cka/<at>/<at>" (L, L) unbiased linear CKA between layers, "spectrum/<at>/<layer>" eigenvalues of the
            covariance (descending), "umap/<at>/<layer>" (n, 2), "umap/labels" (n,); <at> is "initial" or "trained".
        settings: everything that made it; `settings["layers"]` names the rows of the matrices.
    """

    name: str
    table: pd.DataFrame
    location: Location | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write the study to `folder`, making it if needed, and replacing a study that is there. Returns the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS).unlink(missing_ok=True)  # from here until the end the folder is not a finished study
        location = "null" if self.location is None else self.location.to_json()
        replace_file(folder / TABLE, lambda p: self.table.to_parquet(p, index=False))
        replace_file(folder / LOCATION, lambda p: p.write_text(location, encoding="utf-8"))
        replace_file(folder / ARRAYS, lambda p: save_arrays(p, self.arrays))
        sums = {name: file_sha256(folder / name) for name in FILES if name != SETTINGS}
        settings = json.dumps({"name": self.name, **self.settings, "files": sums}, indent=2, default=str)
        replace_file(folder / SETTINGS, lambda p: p.write_text(settings, encoding="utf-8"))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The study saved in `folder`; BadInput that names the file when one is missing, truncated or corrupt."""
        folder = Path(folder)
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise BadInput(
                f"{folder} holds no finished study: {', '.join(missing)} missing. "
                "Run the same geomfeat analyze command again, it goes on where it was interrupted"
            )
        settings = _read(folder / SETTINGS, read_json)
        for name, expected in settings.pop("files", {}).items():
            if file_sha256(folder / name) != expected:
                raise _damaged(folder / name, "its checksum is not the one in settings.json")
        table = _read(folder / TABLE, pd.read_parquet)
        text = _read(folder / LOCATION, lambda p: p.read_text(encoding="utf-8"))
        location = _read(folder / LOCATION, lambda _: None if text.strip() == "null" else Location.from_json(text))
        arrays = _read(folder / ARRAYS, load_arrays)
        return cls(str(settings.pop("name", folder.name)), table, location, arrays, settings)


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
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object was expected, found {type(value).__name__}")
    return value


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, how: str) -> BadInput:
    return BadInput(
        f"{path} is truncated or corrupt ({how}): delete it and run the same geomfeat analyze command again"
    )


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as cause:
        raise _damaged(path, (str(cause).splitlines() or [type(cause).__name__])[0]) from cause
