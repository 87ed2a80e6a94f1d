"""What a SPEC names, by its content: results are the same where these sums are."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from geomfeat.data._load_data import BY_PATH
from geomfeat.models.weights.checkpoints import weights_sha256 as file_sha256, working_folder_on_path


def contents(spec: str) -> list[str]:
    """SHA-256 of what a SPEC names: a data file, a folder with data, or the Python file of a factory; else nothing."""
    kind, _, rest = spec.partition(":")
    if kind in BY_PATH:
        path = Path(rest).expanduser()
        return [file_sha256(path)] if path.is_file() else [_folder_sum(path)] if rest and path.is_dir() else []
    source = spec.rpartition(":")[0]
    if not source:
        return []
    path = Path(source) if source.endswith(".py") else _module_file(source)
    return [file_sha256(path)] if path is not None and path.is_file() else []


def _folder_sum(folder: Path) -> str:
    """SHA-256 over names, sizes and contents of the files in a folder, and in the folders right in it."""
    files = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    lines = [f"{path.relative_to(folder)} {path.stat().st_size} {file_sha256(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _module_file(name: str) -> Path | None:
    """The file of a module, looked for where `load_factory` does; None if there is none (loading reports it)."""
    try:
        with working_folder_on_path():
            found = importlib.util.find_spec(name)
    except Exception:  # noqa: BLE001 - a package that breaks when imported: loading reports the cause
        return None
    return None if found is None or not found.has_location or found.origin is None else Path(found.origin)
