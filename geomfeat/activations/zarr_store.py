"""Activations on disk: a zarr v3 array per checkpoint and layer, written once in whole blocks of rows, then sealed.

A folder `path/checkpoint/layer` holds the array (any zarr reader opens it) and, next to its chunks, a marker: while
it is written `progress.json`, renewed after every block; at last `done.json`. Both list the sha256 of every block, so
an interrupted write resumes and damage is noticed when the block is read. Several processes write blocks of one array,
each with a record of its own (`progress-1.json`, ...); whoever resumes, in whatever number, continues from all of them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import torch

from geomfeat.activations._layer_folder import (
    DONE,
    FACTS,
    PROGRESS,
    LayerWriter,
    damaged,
    new_plan,
    opened,
    parsed,
    plain,
    read_plan,
    require_bytes,
    require_free,
    sha256,
    with_parts,
    write_json,
)
from geomfeat.errors import BadInput, OutputExists, near
from geomfeat.numerics import refuse_masked
from geomfeat.storage.npz_files import UNREADABLE
from geomfeat.storage.owned_files import as_path
from geomfeat.types import Representation

_ROOT = "%"  # the folder of the layer "", the model itself; _safe() never makes it


class ActivationStore:
    """The layers of one checkpoint in a store.

    Args:
        path: the store's folder; made when something is written.
        checkpoint: which of the checkpoints in it ("init", "trained", a step, ...).

    >>> import tempfile
    >>> store = ActivationStore(tempfile.mkdtemp())
    >>> store.write("fc1", [np.ones((4, 3), "float32"), np.zeros((2, 3), "float32")])
    >>> store.layers(), store.read("fc1", rows=slice(3, 5)).tolist()
    (['fc1'], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    """

    def __init__(self, path: str | os.PathLike[str], checkpoint: str | int = "trained") -> None:
        self.path = as_path(path, "store")
        self.checkpoint = str(checkpoint)
        if not self.checkpoint or self.path.is_file():
            raise BadInput(f"store {str(path)!r} must be a folder, and checkpoint {checkpoint!r} a name")

    def __repr__(self) -> str:
        return f"ActivationStore({str(self.path)!r}, checkpoint={self.checkpoint!r})"

    @property
    def root(self) -> Path:
        """The checkpoint's folder."""
        return self.path / _safe(self.checkpoint)

    def folder(self, layer: str) -> Path:
        """The folder of a layer."""
        return self.root / (_safe(layer) if layer else _ROOT)

    def layers(self) -> list[str]:
        """Names of the layers that are complete, in alphabetical order."""
        found = sorted(marker.parent.name for marker in self.root.glob(f"*/{DONE}"))
        return ["" if name == _ROOT else unquote(name) for name in found]

    def claim(self, facts: Mapping[str, Any]) -> None:
        """Record what the checkpoint was made from; OutputExists if it was made from something else."""
        file = self.root / FACTS
        if file.is_file():
            known = parsed(file)
            if not known.keys() & facts.keys():
                raise OutputExists(f"{file} was not written by geomfeat: choose another store or checkpoint name")
            _require_same(known, facts, f"checkpoint {self.checkpoint!r} of store {self.path}", self.root)
        else:
            write_json(file, facts)

    def writer(
        self,
        layer: str,
        shape: tuple[int, int],
        dtype: str,
        rows_per_block: int,
        settings: Mapping[str, Any],
        *,
        part: int = 0,
    ) -> LayerWriter:
        """Begin a layer, or resume one (whose rows_per_block is then used).

        part: which of several processes writes; those after the first join what it has begun.

        Raises OutputExists for other settings, and if the layer's folder holds a file that geomfeat did not
        write; BadInput for a layer that is damaged.
        """
        folder, facts = self.folder(layer), self._facts()
        for marker in (folder / DONE, folder / PROGRESS):
            if marker.is_file():
                known = read_plan(marker, layer, facts)
                found = {key: known[key] for key in ("shape", "dtype")} | known["settings"]
                wanted = {"shape": list(shape), "dtype": dtype} | plain(settings)
                _require_same(found, wanted, f"layer {layer!r} in store {self.path}", folder)
                done = marker.name == DONE
                return LayerWriter(folder, known if done else with_parts(folder, known), done, part)
        if part:
            raise BadInput(
                f"process {part} does not see layer {layer!r} in store {self.path}, which the first one has begun: "
                "give all processes one folder that they share"
            )
        require_free(folder)
        return LayerWriter(folder, new_plan(layer, shape, dtype, rows_per_block, settings, facts), done=False)

    def write(self, layer: str, row_blocks: Iterable[np.ndarray], settings: Mapping[str, Any] | None = None) -> None:
        """A whole layer from blocks of rows (k, d), one after the other, the first of which sets the block size.

        Blocks are held until the end is known, so that the array has its final size: stream big layers by `extract`.
        Nothing happens if the layer is there already with the same shape and settings.
        """
        given = list(row_blocks)
        refuse_masked(given, f"features of layer {layer!r}")
        blocks = [np.atleast_2d(np.asarray(block)) for block in given]
        if not blocks or not sum(map(len, blocks)):
            raise BadInput(f"layer {layer!r} has no rows to write")
        rows = np.concatenate(blocks)
        per_block = max(1, min(len(rows), 2**26 // max(1, rows[:1].nbytes)))
        writer = self.writer(layer, (rows.shape[0], rows.shape[1]), str(rows.dtype), per_block, settings or {})
        for k in writer.missing():
            writer.put(k, rows[writer.rows(k)])
        writer.finish()

    def read(self, layer: str, rows: slice | None = None) -> np.ndarray:
        """The rows of a layer (all, or a slice with step 1), checked against their sha256.

        Raises BadInput for a missing or incomplete layer, and for damaged data.
        """
        plan = self._plan(layer)
        folder, size = self.folder(layer), plan["rows_per_block"]
        n, d = plan["shape"]
        start, stop, step = (rows or slice(None)).indices(n)
        if step != 1:
            raise BadInput(f"rows={rows} must be a slice with step 1")
        blocks = range(start // size, math.ceil(stop / size) if stop > start else start // size)
        try:
            array = opened(folder, plan, "r")
            require_bytes(folder, plan, blocks)
            out = np.empty((max(0, stop - start), d), plan["dtype"])
            for k in blocks:
                block = np.ascontiguousarray(array[k * size : min(n, (k + 1) * size)])
                if sha256(block) != plan["sha256"][k]:
                    raise ValueError(f"rows {k * size} to {k * size + len(block)} are not what was written")
                low, high = max(start, k * size), min(stop, k * size + len(block))
                out[low - start : high - start] = block[low - k * size : high - k * size]
        except UNREADABLE as cause:
            raise BadInput(damaged(folder, cause)) from cause
        return out

    def load(self, layer: str, rows: slice | None = None) -> Representation:
        """A layer as a Representation, with the `meta` it was stored with."""
        plan = self._plan(layer)
        return Representation(torch.from_numpy(self.read(layer, rows)), layer=layer, meta=plan["settings"])

    def settings(self, layer: str) -> dict[str, Any]:
        """What a complete layer was made with."""
        return self._plan(layer)["settings"]

    def _plan(self, layer: str) -> dict[str, Any]:
        marker = self.folder(layer) / DONE
        if not marker.is_file():
            begun = (self.folder(layer) / PROGRESS).is_file()
            state = "is not complete: run the same extraction again to resume" if begun else "is missing"
            known = self.layers()
            raise BadInput(f"layer {layer!r} in {self!r} {state}; complete: {near(layer, known) or 'none'}")
        return read_plan(marker, layer, self._facts())

    def _facts(self) -> dict[str, Any] | None:
        """What the checkpoint was made from, where that is known."""
        file = self.root / FACTS
        return parsed(file) if file.is_file() else None


def _safe(name: str) -> str:
    quoted = quote(name, safe="._-[]@ ")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _require_same(known: Mapping[str, Any], wanted: Mapping[str, Any], what: str, folder: Path) -> None:
    wanted = plain(wanted)
    different = [key for key in wanted if known.get(key) != wanted[key]]
    if different:
        differences = "; ".join(f"{key} is {known.get(key)!r} there, {wanted[key]!r} now" for key in different)
        raise OutputExists(
            f"{what} was made with other settings ({differences}): choose another store or checkpoint name, "
            f"or delete {folder}"
        )
