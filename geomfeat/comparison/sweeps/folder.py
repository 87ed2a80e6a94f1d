"""The folder of one finished run: written atomically by one process at a time, verified by checksum.

A sweep's folder holds `runs/<address>/` for every finished run, `.partial/` for those in the making, `.claims/` with
a lock for each of these, and `sweep.json`. A run is made in `.partial` and moved to its place by one rename. The lock
is the operating system's, so that it ends with the process that holds it. The address is a sum of the run's config and
the code's version, which the manifest holds: a folder that was copied to another address does not count as that run.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from geomfeat.errors import BadInput
from geomfeat.storage.atomic import DAMAGED, file_sha256, marked_table, read_json
from geomfeat.storage.locks import lock
from geomfeat.storage.owned_files import json_text, make_folder, remove_own, require_ours, writing
from geomfeat.study.table import COLUMNS

RUNS, PARTIAL, CLAIMS = "runs", ".partial", ".claims"
TABLE, MANIFEST, OPTIMIZER = "table.arrow", "run.json", "optimizer.safetensors"
FORMAT = 1
ADDRESS = 20  # hexadecimal digits
# Weights by the names that `run_task` gives them.
WEIGHTS = re.compile(r"(init|trained|step_\d+)\.safetensors")


class Damaged(BadInput):
    """A run's folder is truncated, altered, or not of this kind; it is left out and computed again."""


def address_of(version: str, config: str) -> str:
    """The name of a run's folder: 20 hexadecimal digits of the SHA-256 of code version and config (canonical JSON)."""
    return hashlib.sha256(f"{version}\n{config}".encode()).hexdigest()[:ADDRESS]


@contextmanager
def claimed(root: Path, address: str, *, wait: bool) -> Iterator[bool]:
    """Inside, no other process makes this run: yields False at once where one does, or waits for its end.

    Where the file system has no locks, several processes may make the same run; the first to finish counts.
    """
    path = make_folder(root / CLAIMS) / address
    with writing(path):
        file = path.open("a")
    with file:
        state = lock(file, wait=wait)
        if state == "held elsewhere":
            yield False
            return
        if state == "held":  # what a killed process has left
            for stale in (root / PARTIAL).glob(f"{address}.*"):
                remove_own(stale, _is_run_file)
        yield True
        if (root / RUNS / address / MANIFEST).is_file() and path.stat().st_size == 0:
            with suppress(PermissionError):  # Windows keeps a file that is open; it does no harm there
                path.unlink(missing_ok=True)


def write_run(
    root: Path, address: str, writers: Mapping[str, Callable[[Path], Any]], manifest: Mapping[str, Any]
) -> Path:
    """Make the folder of a finished run: one writer a file, then the manifest with their sums; returns the folder.

    An existing complete run stays; a damaged one is replaced. OutputExists if the damaged one holds a file
    that geomfeat did not write; WriteFailed where the disk is full.
    """
    final, made = root / RUNS / address, root / PARTIAL / f"{address}.{socket.gethostname()}.{uuid.uuid4().hex[:8]}"
    replaced = made.with_name(f"{made.name}.damaged")
    make_folder(final.parent)
    make_folder(made)
    try:
        with writing(final):
            for name, write in writers.items():
                write(made / name)
            sums = {name: [(made / name).stat().st_size, file_sha256(made / name)] for name in writers}
            content = json_text(
                {"format": FORMAT, **manifest, "address": address, "files": sums}, indent=1, default=str
            )
            (made / MANIFEST).write_text(content, encoding="utf-8")
            if final.exists() and not is_finished(root, address):
                require_ours(final, _is_run_file)
                os.rename(final, replaced)
            try:
                os.rename(made, final)
            except OSError:
                if not is_finished(root, address):  # otherwise another process was first, and its run is the same
                    raise
    finally:
        shutil.rmtree(made, ignore_errors=True)  # this call's own folder, under a name that no other has
        if replaced.is_dir():
            remove_own(replaced, _is_run_file)
    return final


def require_replaceable(root: Path, address: str) -> None:
    """OutputExists where the folder of a run that is to be made holds something that geomfeat did not write."""
    if (root / RUNS / address).is_dir():
        require_ours(root / RUNS / address, _is_run_file)


def _is_run_file(path: Path) -> bool:
    """Whether a file in a run's folder is one of those that a run has, by its name."""
    return path.name in (TABLE, MANIFEST, OPTIMIZER) or WEIGHTS.fullmatch(path.name) is not None


def is_finished(root: Path, address: str) -> bool:
    """Whether a run is there, whole."""
    try:
        return manifest_of(root, address) is not None
    except Damaged:
        return False


def manifest_of(root: Path, address: str) -> dict[str, Any] | None:
    """The manifest of a run; None where there is no folder.

    Damaged where a file is missing or not what was written, by its sum, and where the manifest is another run's.
    """
    folder = root / RUNS / address
    if not folder.is_dir():
        return None
    manifest = _identified(folder)
    for name, (size, digest) in manifest["files"].items():
        try:
            found = (folder / name).stat().st_size
            same = found == size and file_sha256(folder / name) == digest
        except OSError as cause:
            raise Damaged(f"{folder} holds no whole run ({type(cause).__name__}: {cause})") from cause
        if found != size:
            raise Damaged(f"{folder / name} has {found} bytes in place of {size}")
        if not same:
            raise Damaged(f"{folder / name} was changed since it was written: its checksum differs")
    return manifest


def _identified(folder: Path) -> dict[str, Any]:
    """The manifest in a run's folder; Damaged if it cannot be read, or belongs to another run."""
    try:
        manifest = read_json(folder / MANIFEST)
        if manifest["format"] != FORMAT:
            raise Damaged(f"{folder} has format {manifest['format']}, and this version reads {FORMAT}")
        sums = {name: (int(size), str(digest)) for name, (size, digest) in manifest["files"].items()}
        if TABLE not in sums or not all(_is_run_file(Path(name)) and Path(name).name == name for name in sums):
            raise Damaged(f"{folder / MANIFEST} does not list the files of a run")
        if not math.isfinite(manifest.get("seconds", 0.0)):
            raise Damaged(f"{folder / MANIFEST} holds seconds={manifest['seconds']!r}, which is not a time")
        found = address_of(manifest["version"], json.dumps(manifest["config"], sort_keys=True))
    except DAMAGED as cause:
        if isinstance(cause, Damaged):
            raise
        raise Damaged(f"{folder} holds no complete run ({type(cause).__name__}: {cause})") from cause
    if folder.name != found or manifest.get("address", found) != found:
        raise Damaged(f"{folder} holds the run {found}: it was copied here, or its manifest was changed")
    return {**manifest, "files": sums}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A run's table in Arrow's stream format, which opens faster than a small Parquet file or Arrow's own files."""
    content = marked_table(pa.Table.from_pandas(table, preserve_index=False))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content)


def read_table(root: Path, address: str) -> pa.Table:
    """The table of a finished run; Damaged where it is not what was written, or lacks a column of all runs."""
    folder = root / RUNS / address
    expected = _identified(folder)["files"][TABLE][1]
    try:
        content = (folder / TABLE).read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise Damaged(f"{folder / TABLE} is not what was written: its checksum is another one")
        table = pa.ipc.open_stream(pa.py_buffer(content)).read_all()
        _require_schema(table.schema)
    except DAMAGED as cause:
        if isinstance(cause, Damaged):
            raise
        raise Damaged(f"{folder / TABLE} cannot be read ({type(cause).__name__}: {cause})") from cause
    return table


def readable(table: pa.Table) -> pa.Table:
    """Without what pandas wrote of its own types where a changed byte made one unknown; Arrow has the types too."""
    try:
        table.schema.empty_table().to_pandas()
    except (TypeError, ValueError, KeyError, AttributeError):
        return table.replace_schema_metadata(None)
    return table


def _require_schema(schema: pa.Schema) -> None:
    """ValueError that names a column that every run's table has, and this one lacks or holds as another type."""
    of = pa.types
    fits = {
        "text": lambda t: of.is_string(t) or of.is_large_string(t) or of.is_null(t),
        "number": lambda t: of.is_floating(t) or of.is_integer(t), "flag": of.is_boolean, "any": lambda _: True,
    }  # fmt: skip
    for name, kind in {**COLUMNS, "outcome": "text"}.items():
        if name not in schema.names or not fits[kind](schema.field(name).type):
            raise ValueError(f"it has no column {name!r} as runs of this version do")
