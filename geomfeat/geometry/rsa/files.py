"""Dissimilarity matrices from `.npz` files: of brains, or of models known by them alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from geomfeat.errors import BadInput, near
from geomfeat.geometry.rsa.rdms import RDMs, Triangles
from geomfeat.geometry.rsa.square_arrays import are_triangles
from geomfeat.storage.npz_files import array_names, read_arrays

PREFIX, SUFFIX = "rdm_", "_subjects"


def load_rdms(path: str | Path, keys: Sequence[str] = ()) -> dict[str, RDMs]:
    """{name: RDMs} from the arrays "rdm_<name>" of an `.npz`, in the file's order.

    An array holds upper triangles row by row, (pairs,) or (subjects, pairs), or square matrices, (n, n) or
    (subjects, n, n); NaN marks pairs that were not measured. Where there are as many subjects as pairs, an array
    is a square matrix only if it is symmetric with zeros or NaN on its diagonal. They count as correlation distances
    (or any that are proportional to squared distances).

    Args:
        keys: names, with "rdm_" or without; default all of them. Where there are "rdm_x_subjects" and their mean
            "rdm_x", the subjects are taken, as "x": they give a noise ceiling.

    Raises BadInput for a file that is missing, damaged or without such arrays, an unknown key, and other shapes.
    """
    names = array_names(path)
    known = [name for name in names if name.startswith(PREFIX)]
    if not known:
        raise BadInput(f"{path} holds no array named {PREFIX}<name>: it holds {', '.join(names[:8]) or 'nothing'}")
    wanted = _wanted(known, keys, path)
    arrays = read_arrays(path, list(wanted.values()))
    return {name: _as_rdms(name, arrays[key], path) for name, key in wanted.items()}


def _wanted(known: list[str], keys: Sequence[str], path: str | Path) -> dict[str, str]:
    """Name -> array."""
    if not keys:
        every = [key for key in known if key + SUFFIX not in known]
        return {key.removeprefix(PREFIX).removesuffix(SUFFIX): key for key in every}
    chosen = {}
    for key in keys:
        full = key if key.startswith(PREFIX) else PREFIX + key
        if full not in known:
            raise BadInput(f"{path} holds no {full!r}; near: {near(full, known)}")
        chosen[full.removeprefix(PREFIX).removesuffix(SUFFIX)] = full
    return chosen


def _as_rdms(name: str, array: np.ndarray, path: str | Path) -> RDMs:
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2, 3):
        raise BadInput(
            f"{PREFIX}{name} of {path} has type {array.dtype} and {array.ndim} axes: give real numbers, 1 to 3"
        )
    values = torch.from_numpy(np.array(array, dtype=np.float64))
    is_square = array.ndim == 2 and array.shape[0] == array.shape[1] > 1
    try:
        square = array.ndim == 3 or (is_square and not are_triangles(values))
        made = RDMs.of_matrices(values, "correlation") if square else RDMs(values, "correlation")
    except BadInput as cause:
        raise BadInput(f"{PREFIX}{name} of {path}: {cause}") from cause
    names = (name,) if made.n_rdms == 1 else tuple(f"{name} {i + 1}" for i in range(made.n_rdms))
    return RDMs(Triangles(made.vectors), "correlation", names)
