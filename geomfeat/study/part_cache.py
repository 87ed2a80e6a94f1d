"""Finished parts of a study, so that an interrupted one resumes.

A part is addressed by its content: a hash of the weights, the model's code, data, measure, options, seed and version
that made it. A part of other settings is therefore never used, and nothing has to be invalidated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.storage.atomic import file_sha256
from geomfeat.storage.npz_files import archive_note, read_arrays, write_arrays
from geomfeat.storage.owned_files import (
    MADE_BY,
    MARK,
    as_path,
    is_own,
    make_folder,
    remove_own,
    replace_file,
    require_ours,
    require_own,
    writing,
)

FINISHED = "finished.jsonl"
HEADER = 30  # bytes of the header of an array in an archive, without its name


def fingerprint(*things: Any) -> str:
    """Hexadecimal SHA-256 of nested mappings, sequences, frames, tensors, arrays, modules (their state), plain values.

    >>> fingerprint({"a": torch.zeros(2)}) == fingerprint({"a": torch.zeros(2)}) != fingerprint({"a": torch.zeros(3)})
    True
    """
    digest = hashlib.sha256()
    _feed(digest, things)
    return digest.hexdigest()


def _feed(digest: Any, thing: Any) -> None:
    if isinstance(thing, nn.Module):
        thing = thing.state_dict()
    if isinstance(thing, LazyInputs):
        thing = thing.checksum()
    if isinstance(thing, pd.DataFrame):
        thing = thing.to_dict("list")
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        thing = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
    if isinstance(thing, np.ndarray):
        thing = torch.as_tensor(thing)
    if isinstance(thing, Tensor):
        flat = thing.detach().cpu().contiguous()
        digest.update(f"tensor {flat.dtype} {tuple(flat.shape)}".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    elif isinstance(thing, Mapping):
        digest.update(b"{")
        for key in sorted(thing, key=str):
            digest.update(f"{key!s}=".encode())
            _feed(digest, thing[key])
        digest.update(b"}")
    elif isinstance(thing, list | tuple):
        digest.update(b"[")
        for item in thing:
            _feed(digest, item)
        digest.update(b"]")
    else:
        digest.update(f"{type(thing).__name__} {thing!r},".encode())


def code_of(model: nn.Module) -> dict[str, str]:
    """What the model computes with its weights, as text: its modules and their options, and the code of their classes.

    Own classes count by the SHA-256 of their source file, so that a change in a helper next to them is seen too;
    without a file (in a notebook) by the code of `forward`. PyTorch's own count by their name.

    >>> code_of(nn.Sequential(nn.ReLU())) == code_of(nn.Sequential(nn.ReLU())) != code_of(nn.Sequential(nn.Tanh()))
    True
    """
    classes = {c for module in model.modules() for c in type(module).__mro__ if issubclass(c, nn.Module)}
    sums: dict[str, str] = {}
    found = {"model": _without_addresses(repr(model))}
    for made in classes:
        found[f"{made.__module__}.{made.__qualname__}"] = _source(made, sums)
    return found


def _source(made: type[nn.Module], sums: dict[str, str]) -> str:
    if made.__module__.partition(".")[0] in ("torch", "builtins"):
        return ""
    try:
        path = inspect.getsourcefile(made)
        if path is not None and path not in sums:
            sums[path] = file_sha256(path)
    except (TypeError, OSError):
        path = None
    if path is not None:
        return sums[path]
    code = getattr(made.forward, "__code__", None)
    return "" if code is None else _without_addresses(f"{code.co_code.hex()} {code.co_names} {code.co_consts!r}")


def _without_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-fA-F]+", "", text)


class Parts:
    """Finished parts by their key: JSON values in one append-only file, arrays in one `.npz` each.

    Nothing is written before the first part is finished. A line or file that was cut off by an interruption, or that
    is of another part, is not there for `get`. Without a folder nothing is saved. Several threads may put.

    Raises BadInput where the folder is a file; OutputExists where a file of a part's name is not one of geomfeat's.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else as_path(folder, "resume")
        self._values: dict[str, Any] = {}
        self._writing = RLock()
        if self.folder is None:
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise BadInput(f"resume={str(self.folder)!r} is a file: name a folder")
        file = self.folder / FINISHED
        require_own([file] if not _is_empty(file) else [])
        if file.is_file():
            self._values = _read_values(file)

    def get(self, key: str) -> Any:
        """The JSON value of a finished part, or None."""
        return self._values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value; it is on disk when this returns. WriteFailed, and nothing is added, for a full disk."""
        if self.folder is None:
            return
        path = make_folder(self.folder) / FINISHED
        with self._writing, writing(path), path.open("a+b") as file:
            before = file.seek(0, os.SEEK_END)
            cut_off = before > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            lines = [[MADE_BY, MARK], [key, value]] if before == 0 else [[key, value]]
            try:
                file.write(b"\n" * cut_off + b"".join(json.dumps(line).encode() + b"\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), before)
                if before == 0:
                    path.unlink()
                raise
        self._values[key] = value

    def get_arrays(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays of a finished part; None where there is none, or its file is damaged or of another part."""
        path = self._array_path(key)
        if path is None or not path.exists():
            return None
        if not _is_part(path, self._values):
            require_own([path])
        try:
            return read_arrays(path) if archive_note(path) == key else None
        except BadInput:
            return None

    def put_arrays(self, key: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep named arrays; they are on disk, whole, when this returns. OutputExists for a file of the user's there.

        The beginning of the file is stored with the values, so that the file is known where its end, with the mark, is
        cut off.
        """
        path = self._array_path(key)
        if path is None:
            return
        with self._writing:
            make_folder(path.parent)
            ours = path.exists() and _is_part(path, self._values)
            replace_file(path, lambda draft: write_arrays(draft, arrays, key), own=ours)
            self.put(path.name, _beginning(path).hex())

    def _array_path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key[:32]}.npz"


def require_parts(folder: Path) -> None:
    """OutputExists that names the first entry of a folder of parts that geomfeat did not write."""
    if folder.is_dir():
        require_ours(folder, _parts_of(folder))


def remove_parts(folder: Path) -> None:
    """Remove a folder of parts; OutputExists, and nothing is removed, where it holds something else."""
    if folder.is_dir():
        remove_own(folder, _parts_of(folder))


def _parts_of(folder: Path) -> Callable[[Path], bool]:
    """Whether a file is one of a folder's parts."""
    file = folder / FINISHED
    known = _read_values(file) if file.is_file() and is_own(file) else {}
    return lambda path: _is_part(path, known)


def _read_values(file: Path) -> dict[str, Any]:
    """Key -> value of each line that is whole."""
    found = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            part = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(part, list) and len(part) == 2 and isinstance(part[0], str):
            found[part[0]] = part[1]
    return found


def _is_empty(path: Path) -> bool:
    """Whether a file has no content, as where the disk was full for the first part."""
    return path.is_file() and path.stat().st_size == 0


def _beginning(path: Path) -> bytes:
    """The header of an archive's first array, which holds the sum of its content."""
    with path.open("rb") as file:
        return file.read(HEADER)


def _is_part(path: Path, known: Mapping[str, Any]) -> bool:
    """Whether a file was written as a part: it carries the mark, or it is what is left of arrays that `known` lists."""
    if not path.is_file() or path.is_symlink():
        return False
    if path.name == FINISHED:
        return _is_empty(path) or is_own(path)
    if re.fullmatch(r"[0-9a-f]{32}\.npz", path.name) is None:
        return False
    start = known.get(path.name)
    return is_own(path) or _is_empty(path) or (isinstance(start, str) and start.startswith(_beginning(path).hex()))
