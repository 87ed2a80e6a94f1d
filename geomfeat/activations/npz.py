"""A few layers in one `.npz` file: for small extractions and for handing them on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geomfeat.errors import BadInput
from geomfeat.npz_files import UNREADABLE, first_line, read_arrays
from geomfeat.types import Representation

_FIELDS = ("x", "labels", "outputs")


def save_npz(path: str | os.PathLike[str], reps: Mapping[str, Representation]) -> Path:
    """Write representations to a compressed `.npz`, whole or not at all; `load_npz` gives them back.

    Arrays are named "x:layer", "labels:layer", "outputs:layer"; "index" is JSON with layers and their `meta`. What is
    not JSON in a `meta` (a function, an array) is kept as its text.

    >>> import tempfile
    >>> file = save_npz(tempfile.mkdtemp() + "/two", {"fc1": Representation(torch.eye(3), layer="fc1")})
    >>> load_npz(file)["fc1"].n
    3
    """
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    arrays: dict[str, Any] = {}
    index = [{"key": key, "layer": rep.layer, "meta": dict(rep.meta)} for key, rep in reps.items()]
    for key, rep in reps.items():
        for field in _FIELDS:
            value = getattr(rep, field)
            if value is not None:
                arrays[f"{field}:{key}"] = value.cpu().numpy()
    arrays["index"] = np.array(json.dumps(index, default=str))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp.npz")
    try:
        np.savez_compressed(fresh, **arrays)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def load_npz(path: str | os.PathLike[str]) -> dict[str, Representation]:
    """The representations of a file that `save_npz` wrote. BadInput for one that is damaged, or of another kind."""
    file = read_arrays(path)
    if "index" not in file:
        raise BadInput(f"{path} was not written by save_npz: it holds {sorted(file)[:5]}, but no 'index'")
    try:
        found = {entry["key"]: _one(file, entry) for entry in json.loads(str(file["index"]))}
    except UNREADABLE as cause:
        raise BadInput(f"{path} is damaged or truncated ({first_line(cause)}): write it again with save_npz") from cause
    if not found:
        raise BadInput(f"{path} holds no layer: write it again with save_npz")
    return found


def _one(file: Mapping[str, np.ndarray], entry: Mapping[str, Any]) -> Representation:
    x, labels, outputs = (
        torch.from_numpy(file[f"{field}:{entry['key']}"]) if f"{field}:{entry['key']}" in file else None
        for field in _FIELDS
    )
    if x is None:
        raise KeyError(f"x:{entry['key']}")
    if not isinstance(entry["layer"], str) or not isinstance(entry["meta"], dict):
        raise TypeError(f"the index names a layer {entry['layer']!r} with meta {entry['meta']!r}")
    return Representation(x, labels, entry["layer"], entry["meta"], outputs)
