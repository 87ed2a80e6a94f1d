"""Finished parts of a study, so that an interrupted one goes on where it was.

A part is addressed by its content: a hash of the weights, the model's code, data, measure, options, seed and version
that made it. A part of other settings is therefore never taken for this one, and nothing has to be invalidated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geomfeat.models.lazy_inputs import LazyInputs
from geomfeat.study.saved import file_sha256, load_arrays, replace_file, save_arrays

FINISHED = "finished.jsonl"


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

    Nothing is written before the first part is finished. A line or file that was cut off by an interruption is not
    there for `get`. Without a folder nothing is kept.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._values: dict[str, Any] = {}
        if self.folder is not None and (self.folder / FINISHED).is_file():
            for line in (self.folder / FINISHED).read_text(encoding="utf-8").splitlines():
                try:
                    self._values.update([json.loads(line)])
                except (ValueError, TypeError):
                    continue

    def get(self, key: str) -> Any:
        """The JSON value of a finished part, or None."""
        return self._values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value; it is on disk when this returns."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / FINISHED).open("a+b") as file:
            cut_off = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            file.write(b"\n" * cut_off + json.dumps([key, value]).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._values[key] = value

    def get_arrays(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays of a finished part, or None."""
        path = self._array_path(key)
        return load_arrays(path) if path is not None and path.is_file() else None

    def put_arrays(self, key: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep named arrays; they are on disk, whole, when this returns."""
        path = self._array_path(key)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, lambda p: save_arrays(p, arrays))

    def _array_path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key[:32]}.npz"
