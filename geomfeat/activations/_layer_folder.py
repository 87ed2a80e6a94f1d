"""The folder of one layer in a store: a zarr v3 array with its marker, begun, resumed, and sealed.

The marker is written before the array, so a folder without one is not geomfeat's and its files are left alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.errors import BadInput, OutputExists
from geomfeat.storage.npz_files import UNREADABLE, first_line
from geomfeat.storage.owned_files import MADE_BY, is_temporary, json_text, make_folder, replace_file, writing

DONE, PROGRESS, FACTS = "done.json", "progress.json", "facts.json"
PARTS = "progress-*.json"  # of the processes after the first


class LayerWriter:
    """One layer while it is written, block by block, in any order, also by several processes.

    Process `part` of them records its blocks in a file of its own. The first one begins and seals the layer, while no
    other writes.
    """

    def __init__(self, folder: Path, plan: dict[str, Any], done: bool, part: int = 0) -> None:
        self.folder, self.plan, self.done = folder, plan, done
        self._record = folder / (f"progress-{part}.json" if part else PROGRESS)
        self._begun = part > 0 or any(plan["sha256"])

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

    def begin(self) -> None:
        """Make the array, unless blocks of it are written or it is sealed."""
        if self.done or self._begun:
            return
        import zarr

        write_json(self.folder / PROGRESS, self.plan)
        (self.folder / "zarr.json").unlink(missing_ok=True)  # left by an interrupted start
        # A block is a shard, written and checked whole. No compression: features of a network hardly shrink, and
        # writing would be bound by the compressor.
        with writing(self.folder):
            zarr.create_array(
                str(self.folder), shape=tuple(self.plan["shape"]), chunks=_chunks(self.plan),
                shards=_shards(self.plan), dtype=self.plan["dtype"], compressors=None, overwrite=False,
            )  # fmt: skip
        self._begun = True

    def put(self, k: int, block: np.ndarray) -> None:
        """Write block k, then record it. WriteFailed if the disk is full; earlier blocks stay."""
        block = np.ascontiguousarray(block, self.plan["dtype"])
        rows, (_, d) = self.rows(k), self.plan["shape"]
        if block.shape != (rows.stop - rows.start, d):
            raise BadInput(f"block {k} of {self.folder.name} must be {(rows.stop - rows.start, d)}, got {block.shape}")
        self.begin()
        with writing(self.folder):
            opened(self.folder, self.plan, "r+")[rows] = block
        self.plan["sha256"][k] = sha256(block)
        write_json(self._record, self.plan)

    def finish(self) -> None:
        """Seal the layer; BadInput while blocks are missing."""
        if self.done:
            return
        self.plan = with_parts(self.folder, self.plan)
        if self.missing():
            raise BadInput(f"{self.folder} lacks blocks {self.missing()[:5]}: write them before finishing")
        write_json(self.folder / DONE, self.plan)
        for record in (self.folder / PROGRESS, *self.folder.glob(PARTS)):
            record.unlink()
        self.done = True


def require_free(folder: Path) -> None:
    """OutputExists that names the files in a layer's folder without a marker: geomfeat did not write it."""
    if folder.exists() and not folder.is_dir():
        raise OutputExists(f"{folder} is a file where a folder is to be made: choose another store or checkpoint name")
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not is_temporary(path):
            raise OutputExists(
                f"{path} was not written by geomfeat, and a layer is to be written to {folder}: choose another store "
                "or checkpoint name, or move it elsewhere"
            )


def new_plan(
    layer: str, shape: tuple[int, int], dtype: str, rows_per_block: int, settings: Mapping[str, Any], facts: Any
) -> dict[str, Any]:
    """What the marker of a layer says when no block is written yet."""
    size = max(1, rows_per_block)
    return {
        "layer": layer, "shape": list(shape), "dtype": dtype, "rows_per_block": size, "settings": plain(settings),
        "facts": facts, "sha256": [None] * math.ceil(shape[0] / size),
    }  # fmt: skip


def read_plan(marker: Path, layer: str, facts: Any) -> dict[str, Any]:
    """What a marker says, checked.

    Raises BadInput for one that is damaged or does not fit itself, and for the marker of another layer, or of features
    of other weights or inputs, as in a folder that was copied here.
    """
    plan = parsed(marker)
    try:
        _check(plan)
        if marker.name == DONE and None in plan["sha256"]:
            raise ValueError("it is sealed, and blocks are missing")
        if plan["layer"] != layer:
            raise ValueError(f"it belongs to layer {plan['layer']!r}, in place of layer {layer!r}")
        if facts is not None and plan.get("facts") not in (None, facts):
            raise ValueError("it belongs to other weights or inputs than its checkpoint")
    except UNREADABLE as cause:
        raise BadInput(damaged(marker, cause)) from cause
    return plan


def with_parts(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The plan of a layer with the blocks that any process has recorded; BadInput for records of another layer."""
    sums = list(plan["sha256"])
    for record in sorted(folder.glob(PARTS)):
        part = read_plan(record, plan["layer"], plan["facts"])
        if {**part, "sha256": None} != {**plan, "sha256": None}:
            raise BadInput(damaged(record, ValueError("it describes another array than the record beside it")))
        sums = [own if own is not None else found for own, found in zip(sums, part["sha256"], strict=True)]
    return {**plan, "sha256": sums}


def _check(plan: Mapping[str, Any]) -> None:
    n, d = plan["shape"]
    size, sums = plan["rows_per_block"], plan["sha256"]
    for name, value in (("rows", n), ("columns", d), ("rows_per_block", size)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} is {value!r}, expected a number of at least 1")
    if np.dtype(plan["dtype"]).kind not in "fiubc":
        raise ValueError(f"dtype is {plan['dtype']!r}, which is not a numeric type")
    if not isinstance(sums, list) or len(sums) != math.ceil(n / size):
        raise ValueError(f"{n} rows need {math.ceil(n / size)} blocks, and it lists another number")
    if not all(digest is None or isinstance(digest, str) for digest in sums):
        raise ValueError("it lists something else than checksums")
    if not isinstance(plan["settings"], dict):
        raise ValueError("its settings are not a JSON object")


def opened(folder: Path, plan: Mapping[str, Any], mode: Any) -> Any:
    """The array of a layer; ValueError where it is not the one that the marker describes."""
    import zarr

    array = zarr.open_array(str(folder), mode=mode)
    found = (list(array.shape), str(array.dtype), array.chunks, array.shards)
    wanted = (plan["shape"], plan["dtype"], _chunks(plan), _shards(plan))
    if found != wanted:
        raise ValueError(f"zarr.json describes {found}, the marker {wanted}")
    return array


def require_bytes(folder: Path, plan: Mapping[str, Any], blocks: range) -> None:
    """ValueError where the blocks hold fewer bytes than their rows need: nothing is allocated for missing rows."""
    n, d = plan["shape"]
    size, width = plan["rows_per_block"], d * np.dtype(plan["dtype"]).itemsize
    for k in blocks:
        needed = (min(n, (k + 1) * size) - k * size) * width
        there = (folder / "c" / str(k) / "0").stat().st_size
        if there < needed:
            raise ValueError(f"block {k} has {there} bytes, expected {needed}")


def _chunks(plan: Mapping[str, Any]) -> tuple[int, int]:
    return math.gcd(plan["rows_per_block"], 256), plan["shape"][1]


def _shards(plan: Mapping[str, Any]) -> tuple[int, int]:
    return plan["rows_per_block"], plan["shape"][1]


def sha256(block: np.ndarray) -> str:
    """Hexadecimal SHA-256 of an array's numbers."""
    return hashlib.sha256(np.ascontiguousarray(block).reshape(-1).data).hexdigest()


def plain(value: Any) -> Any:
    """The value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """A marker of the store, whole or not at all."""
    make_folder(file.parent)
    replace_file(file, lambda draft: draft.write_text(json_text(value, indent=1)), own=True)


def parsed(file: Path) -> dict[str, Any]:
    """A marker of the store, without the mark of geomfeat; BadInput if it is not a JSON object."""
    try:
        found = json.loads(file.read_text())
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return {key: value for key, value in found.items() if key != MADE_BY}
    except UNREADABLE as cause:
        raise BadInput(damaged(file, cause)) from cause


def damaged(file: Path, cause: BaseException) -> str:
    """The message for a layer that cannot be read."""
    folder = file.parent if file.suffix == ".json" else file
    return f"{file} is damaged or truncated ({first_line(cause)}): delete the folder {folder} and extract again"
