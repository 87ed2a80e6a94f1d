"""The folder of one finished run: there whole or not at all, checked by sums, written by one process at a time.

A sweep's folder holds `runs/<address>/` for every finished run, `.partial/` for those in the making, `.claims/` with
a lock for each of these, and `sweep.json`. A run is made in `.partial` and moved to its place by one rename. The lock
is the operating system's, so that it ends with the process that holds it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from geomfeat.errors import BadInput
from geomfeat.study.saved import file_sha256, read_json

RUNS, PARTIAL, CLAIMS = "runs", ".partial", ".claims"
TABLE, MANIFEST = "table.arrow", "run.json"
FORMAT = 1


class Damaged(BadInput):
    """A run's folder is truncated, altered, or not of this kind; it is left out and computed again."""


@contextmanager
def claimed(root: Path, address: str, *, wait: bool) -> Iterator[bool]:
    """Inside, no other process makes this run: yields False at once where one does, or waits for its end.

    Where the file system has no locks, several processes may make the same run; the first to finish is kept.
    """
    (root / CLAIMS).mkdir(parents=True, exist_ok=True)
    path = root / CLAIMS / address
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            alone = True
        except BlockingIOError:
            yield False
            return
        except OSError:
            alone = False
        if alone:  # what a killed process has left
            for stale in (root / PARTIAL).glob(f"{address}.*"):
                shutil.rmtree(stale, ignore_errors=True)
        yield True
        if (root / RUNS / address / MANIFEST).is_file():
            path.unlink(missing_ok=True)


def write_run(
    root: Path, address: str, writers: Mapping[str, Callable[[Path], Any]], manifest: Mapping[str, Any]
) -> Path:
    """Make the folder of a finished run: one writer a file, then the manifest with their sums; returns the folder.

    A whole one that is there already is kept; a damaged one is replaced. OSError where the disk is full.
    """
    final, made = root / RUNS / address, root / PARTIAL / f"{address}.{socket.gethostname()}.{uuid.uuid4().hex[:8]}"
    final.parent.mkdir(parents=True, exist_ok=True)
    made.mkdir(parents=True)
    try:
        for name, write in writers.items():
            write(made / name)
        sums = {name: [(made / name).stat().st_size, file_sha256(made / name)] for name in writers}
        told = {"format": FORMAT, **manifest, "files": sums}
        (made / MANIFEST).write_text(json.dumps(told, indent=1, default=str), encoding="utf-8")
        if final.exists() and not is_finished(root, address):
            os.rename(final, made.with_name(f"{made.name}.damaged"))
        try:
            os.rename(made, final)
        except OSError:
            if not is_finished(root, address):  # else another process was first: its run is the same
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(made.with_name(f"{made.name}.damaged"), ignore_errors=True)
    return final


def is_finished(root: Path, address: str) -> bool:
    """Whether a run is there, whole."""
    try:
        return manifest_of(root, address) is not None
    except Damaged:
        return False


def manifest_of(root: Path, address: str) -> dict[str, Any] | None:
    """The manifest of a run; None where there is no folder. Damaged where a file is missing or of another size.

    The content of the table is checked too, that of the weights when they are read.
    """
    folder = root / RUNS / address
    if not folder.is_dir():
        return None
    try:
        told = read_json(folder / MANIFEST)
        sums = {str(name): (int(size), str(digest)) for name, (size, digest) in told["files"].items()}
        if told["format"] != FORMAT:
            raise Damaged(f"{folder} has format {told['format']}, and this version reads {FORMAT}")
        for name, (size, digest) in sums.items():
            if (folder / name).stat().st_size != size:
                raise Damaged(f"{folder / name} has {(folder / name).stat().st_size} bytes in place of {size}")
            if name == TABLE and file_sha256(folder / name) != digest:
                raise Damaged(f"{folder / name} is not what was written: its checksum is another one")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        if isinstance(cause, Damaged):
            raise
        raise Damaged(f"{folder} holds no whole run ({type(cause).__name__}: {cause})") from cause
    return told


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A run's table in Arrow's stream format, which opens faster than a small Parquet file or Arrow's own files."""
    content = pa.Table.from_pandas(table, preserve_index=False)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content)


def read_table(root: Path, address: str) -> pa.Table:
    """The table of a finished run; Damaged where it is not what was written."""
    path = root / RUNS / address / TABLE
    try:
        expected = read_json(path.with_name(MANIFEST))["files"][TABLE][1]
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise Damaged(f"{path} is not what was written: its checksum is another one")
        return pa.ipc.open_stream(pa.py_buffer(content)).read_all()
    except (OSError, ValueError, KeyError, TypeError, IndexError, pa.ArrowInvalid) as cause:
        if isinstance(cause, Damaged):
            raise
        raise Damaged(f"{path} cannot be read ({type(cause).__name__}: {cause})") from cause
