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
from geomfeat.storage.npz_files import UNREADABLE, array_names, first_line, read_arrays, write_arrays
from geomfeat.storage.owned_files import as_path, make_folder, replace_file, require_own
from geomfeat.types import Representation

REMEDY = "write it again with save_npz"
_FIELDS = ("x", "labels", "outputs", "groups")


def save_npz(path: str | os.PathLike[str], reps: Mapping[str, Representation]) -> Path:
    """Write representations to a compressed `.npz`, atomically; `load_npz` reads it.

    Arrays are named "x:layer", "labels:layer", "outputs:layer", "groups:layer"; "index" is JSON with layers, their
    `meta` and names of classes. A value in `meta` that is not JSON (a function, an array) is saved as text. An existing
    file is replaced only if `save_npz` wrote it; any other raises OutputExists. WriteFailed for a full disk.

    >>> import tempfile
    >>> file = save_npz(tempfile.mkdtemp() + "/two", {"fc1": Representation(torch.eye(3), layer="fc1")})
    >>> load_npz(file)["fc1"].n
    3
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(reps, Mapping):
        raise BadInput(
            f"save_npz(path, layers) takes the file first and then a mapping of layers to Representations, got "
            f"{type(path).__name__} and {type(reps).__name__}"
            + (f": for one layer give {{{reps.layer!r}: it}}" if isinstance(reps, Representation) else "")
        )
    path = as_path(path)
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    arrays: dict[str, Any] = {}
    index = [
        {"key": key, "layer": rep.layer, "meta": dict(rep.meta), "classes": rep.classes} for key, rep in reps.items()
    ]
    for key, rep in reps.items():
        for field in _FIELDS:
            value = getattr(rep, field)
            if value is not None:
                arrays[f"{field}:{key}"] = value.cpu().numpy()
    arrays["index"] = np.array(json.dumps(index, default=str))
    require_own([path])
    make_folder(path.parent)
    replace_file(path, lambda draft: write_arrays(draft, arrays))
    return path


def load_npz(path: str | os.PathLike[str]) -> dict[str, Representation]:
    """Load the representations of a file written by `save_npz`.

    Raises BadInput for one that is missing, damaged, encrypted, without a layer, or of another kind.
    """
    path = as_path(path)
    names = array_names(path, REMEDY)
    if "index" not in names:
        raise BadInput(f"{path} was not written by save_npz: it holds {sorted(names)[:5]}, but no 'index'")
    file = read_arrays(path, remedy=REMEDY)
    try:
        found = {entry["key"]: _one(file, entry) for entry in json.loads(str(file["index"]))}
    except UNREADABLE as cause:
        raise BadInput(f"{path} is damaged or truncated ({first_line(cause)}): {REMEDY}") from cause
    if not found:
        raise BadInput(f"{path} holds no layer: {REMEDY}")
    return found


def _one(file: Mapping[str, np.ndarray], entry: Mapping[str, Any]) -> Representation:
    key, layer, meta, classes = entry["key"], entry["layer"], entry["meta"], entry.get("classes", [])
    if not isinstance(key, str) or not isinstance(layer, str) or not isinstance(meta, dict):
        raise TypeError("its index does not say which layers it holds")
    x, labels, outputs, groups = (
        torch.from_numpy(file[f"{field}:{key}"]) if f"{field}:{key}" in file else None for field in _FIELDS
    )
    if x is None:
        raise KeyError(f"x:{key}")
    return Representation(x, labels, layer, meta, outputs, groups, tuple(classes))
