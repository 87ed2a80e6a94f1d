"""What a SPEC names, by its content: results are the same where these sums are."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from geomfeat.data._load_data import BY_PATH, TASK
from geomfeat.data.pretrained_inputs import OPTIONS, READERS
from geomfeat.data.spec_options import PathWithOptions
from geomfeat.models.sources._load_model import source_of
from geomfeat.models.sources.image_libraries import LIBRARIES
from geomfeat.models.sources.saved_folders import PREFIX, content_files, path_of
from geomfeat.models.weights.checkpoints import weights_sha256 as file_sha256, working_folder_on_path

DEEP = ("**/*",)  # everything in a folder: images lie in folders of folders


def contents(spec: str) -> list[str]:
    """SHA-256 of what a SPEC names: a data file, a folder with data, a saved model, or the Python file of a factory.

    The version of a library whose network it is; else nothing.
    """
    kind, _, rest = spec.partition(":")
    if kind == TASK:  # the name says all
        return []
    if kind in BY_PATH:
        return _path_sum(Path(rest).expanduser()) if rest else []
    if kind in READERS and rest:
        source = PathWithOptions.of(rest, OPTIONS[kind])
        own = source.options.get("tokenizer")
        return [*_path_sum(source.path, DEEP), *([] if own is None else _sums(content_files(path_of(own))))]
    if spec.startswith(PREFIX):
        return _sums(source_of(spec).files())
    if kind in LIBRARIES and importlib.util.find_spec(kind) is not None:
        return [f"{kind} {importlib.metadata.version(kind)}"]
    source = spec.rpartition(":")[0]
    if not source:
        return []
    path = Path(source) if source.endswith(".py") else _module_file(source)
    return [file_sha256(path)] if path is not None and path.is_file() else []


def _path_sum(path: Path, patterns: Sequence[str] = ("*", "*/*")) -> list[str]:
    return [file_sha256(path)] if path.is_file() else [_folder_sum(path, patterns)] if path.is_dir() else []


def _sums(files: list[Path]) -> list[str]:
    return [hashlib.sha256("\n".join(f"{file.name} {file_sha256(file)}" for file in files).encode()).hexdigest()]


def _folder_sum(folder: Path, patterns: Sequence[str]) -> str:
    """SHA-256 over names, sizes and contents of the files in a folder that have one of the patterns."""
    files = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
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
