"""Activations on disk: a zarr v3 array per checkpoint and layer, written once in whole blocks of rows, then sealed.

A folder `path/checkpoint/layer` holds the array (any zarr reader opens it) and, beside its chunks, a marker: while
it is written `progress.json`, renewed after every block; at last `done.json`. Both list the sha256 of every block, so
an interrupted write goes on where it stopped and damage is noticed when the block is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import torch

from geomfeat.errors import BadInput, OutputExists, near
from geomfeat.types import Representation

_DONE, _PROGRESS, _FACTS = "done.json", "progress.json", "facts.json"
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
        self.path = Path(path)
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
        """Where a layer lies."""
        return self.root / (_safe(layer) if layer else _ROOT)

    def layers(self) -> list[str]:
        """Names of the layers that are complete, in alphabetical order."""
        found = sorted(marker.parent.name for marker in self.root.glob(f"*/{_DONE}"))
        return ["" if name == _ROOT else unquote(name) for name in found]

    def is_done(self, layer: str) -> bool:
        """Whether the layer is there, complete."""
        return (self.folder(layer) / _DONE).is_file()

    def claim(self, facts: Mapping[str, Any]) -> None:
        """Record what the checkpoint was made from; OutputExists if it was made from something else."""
        file = self.root / _FACTS
        if file.is_file():
            _require_same(_parsed(file), facts, f"checkpoint {self.checkpoint!r} of store {self.path}", self.root)
        else:
            _write_json(file, facts)

    def writer(
        self, layer: str, shape: tuple[int, int], dtype: str, rows_per_block: int, settings: Mapping[str, Any]
    ) -> LayerWriter:
        """Begin a layer, or go on with one (its own rows_per_block then holds). OutputExists for other settings."""
        folder = self.folder(layer)
        plan = {
            "layer": layer,
            "shape": list(shape),
            "dtype": dtype,
            "rows_per_block": max(1, rows_per_block),
            "settings": _plain(settings),
            "sha256": [None] * math.ceil(shape[0] / max(1, rows_per_block)),
        }
        for marker in (folder / _DONE, folder / _PROGRESS):
            if marker.is_file():
                known = _parsed(marker)
                facts = {key: known.get(key) for key in ("shape", "dtype")} | known.get("settings", {})
                wanted = {"shape": plan["shape"], "dtype": dtype} | plan["settings"]
                _require_same(facts, wanted, f"layer {layer!r} in store {self.path}", folder)
                return LayerWriter(folder, known, done=marker.name == _DONE)
        return LayerWriter(folder, plan, done=False)

    def write(self, layer: str, row_blocks: Iterable[np.ndarray], settings: Mapping[str, Any] | None = None) -> None:
        """A whole layer from blocks of rows (k, d), one after the other, the first of which sets the block size.

        Blocks are held until the end is known, so that the array has its final size: stream big layers by `extract`.
        Nothing happens if the layer is there already with the same shape and settings.
        """
        blocks = [np.atleast_2d(np.asarray(block)) for block in row_blocks]
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

        Raises BadInput for a layer that is not there or not complete, and for damaged data.
        """
        import zarr

        plan = self._plan(layer)
        n, d = plan["shape"]
        start, stop, step = (rows or slice(None)).indices(n)
        if step != 1:
            raise BadInput(f"rows={rows} must be a slice with step 1")
        out = np.empty((max(0, stop - start), d), plan["dtype"])
        size = plan["rows_per_block"]
        try:
            array = zarr.open_array(str(self.folder(layer)), mode="r")
            for k in range(start // size, math.ceil(stop / size) if stop > start else 0):
                block = np.ascontiguousarray(array[k * size : min(n, (k + 1) * size)])
                if _sha256(block) != plan["sha256"][k]:
                    raise ValueError(f"rows {k * size} to {k * size + len(block)} are not what was written")
                low, high = max(start, k * size), min(stop, k * size + len(block))
                out[low - start : high - start] = block[low - k * size : high - k * size]
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as cause:
            raise BadInput(_damaged(self.folder(layer), cause)) from cause
        return out

    def load(self, layer: str, rows: slice | None = None) -> Representation:
        """A layer as a Representation, with the `meta` it was stored with."""
        plan = self._plan(layer)
        return Representation(torch.from_numpy(self.read(layer, rows)), layer=layer, meta=plan["settings"])

    def settings(self, layer: str) -> dict[str, Any]:
        """What a complete layer was made with."""
        return self._plan(layer)["settings"]

    def _plan(self, layer: str) -> dict[str, Any]:
        marker = self.folder(layer) / _DONE
        if not marker.is_file():
            begun = (self.folder(layer) / _PROGRESS).is_file()
            state = "is not complete: run the same extraction again to go on" if begun else "is not there"
            known = self.layers()
            raise BadInput(f"layer {layer!r} in {self!r} {state}; complete: {near(layer, known) or 'none'}")
        return _parsed(marker)


class LayerWriter:
    """One layer while it is written, block by block, in any order."""

    def __init__(self, folder: Path, plan: dict[str, Any], done: bool) -> None:
        self.folder, self.plan, self.done = folder, plan, done

    @property
    def rows_per_block(self) -> int:
        """Rows of every block but the last."""
        return self.plan["rows_per_block"]

    def rows(self, k: int) -> slice:
        """The rows of block k."""
        return slice(k * self.rows_per_block, min(self.plan["shape"][0], (k + 1) * self.rows_per_block))

    def missing(self) -> list[int]:
        """Blocks that are still to be written."""
        return [k for k, digest in enumerate(self.plan["sha256"]) if digest is None]

    def put(self, k: int, block: np.ndarray) -> None:
        """Write block k, then note that it is there."""
        import zarr

        block = np.ascontiguousarray(block, self.plan["dtype"])
        rows, (n, d) = self.rows(k), self.plan["shape"]
        if block.shape != (rows.stop - rows.start, d):
            raise BadInput(f"block {k} of {self.folder.name} must be {(rows.stop - rows.start, d)}, got {block.shape}")
        if not (self.folder / _PROGRESS).is_file():
            # A block is a shard, written and checked whole. No compression: features of a network hardly shrink, and
            # writing would be bound by the compressor.
            zarr.create_array(
                str(self.folder),
                shape=(n, d),
                chunks=(math.gcd(self.rows_per_block, 256), d),
                shards=(self.rows_per_block, d),
                dtype=self.plan["dtype"],
                compressors=None,
                overwrite=True,
            )
        zarr.open_array(str(self.folder), mode="r+")[rows] = block
        self.plan["sha256"][k] = _sha256(block)
        _write_json(self.folder / _PROGRESS, self.plan)

    def finish(self) -> None:
        """Seal the layer; BadInput while blocks are missing."""
        if self.done:
            return
        if self.missing():
            raise BadInput(f"{self.folder} lacks blocks {self.missing()[:5]}: write them before finishing")
        _write_json(self.folder / _DONE, self.plan)
        (self.folder / _PROGRESS).unlink()
        self.done = True


def _safe(name: str) -> str:
    quoted = quote(name, safe="._-[]@ ")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _sha256(block: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(block).reshape(-1).data).hexdigest()


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(file.name + f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps(value, indent=1))
    fresh.replace(file)


def _parsed(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return found
    except (OSError, ValueError, RecursionError) as cause:
        raise BadInput(_damaged(file, cause)) from cause


def _damaged(file: Path, cause: Exception) -> str:
    folder = file.parent if file.suffix == ".json" else file
    return f"{file} is damaged or truncated ({cause}): delete the folder {folder} and extract again"


def _require_same(known: Mapping[str, Any], wanted: Mapping[str, Any], what: str, folder: Path) -> None:
    wanted = _plain(wanted)
    different = [key for key in wanted if known.get(key) != wanted[key]]
    if different:
        told = "; ".join(f"{key} is {known.get(key)!r} there, {wanted[key]!r} now" for key in different)
        raise OutputExists(
            f"{what} was made with other settings ({told}): choose another store or checkpoint name, or delete {folder}"
        )
