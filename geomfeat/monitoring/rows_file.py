"""A file of JSON lines that only grows: what is written stays whatever happens after.

A line is written by one call and forced to the disk. A process that dies in it leaves a part of a line, which readers
leave out; the next line begins on its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geomfeat.errors import BadInput
from geomfeat.monitoring.row import Event, Row
from geomfeat.storage.owned_files import json_text, writing

ROWS = "rows.jsonl"
KIND = "rows of a monitor"


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line; the file is made with the mark of geomfeat if there is none.

    Raises WriteFailed for a full disk.
    """
    # A process that died before its first line leaves an empty file.
    new = not path.exists() or path.stat().st_size == 0
    line = json.dumps(record, allow_nan=False) + "\n"
    head = json_text({"kind": KIND}) + "\n" if new else ("" if _ends_whole(path) else "\n")
    with writing(path), path.open("ab", buffering=0) as file:
        file.write((head + line).encode())
        os.fsync(file.fileno())


def read(path: Path) -> tuple[list[Row], list[Event], int]:
    """(rows, events, number of lines that were cut) in the order of writing.

    Raises BadInput for a file that is missing or not of a monitor.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist: name the folder of a monitor that has measured")
    lines = path.read_bytes().split(b"\n")
    if _record(lines[0]).get("kind") != KIND:
        raise BadInput(f"{path} holds no rows of a monitor")
    rows, events, cut = list[Row](), list[Event](), 0
    for line in lines[1:]:
        if not line.strip():
            continue
        record = _record(line)
        try:
            if "event" in record:
                events.append(Event.from_record(record))
            else:
                rows.append(Row.from_record(record))
        except (KeyError, TypeError, ValueError, AttributeError):
            cut += 1
    return rows, events, cut


def _record(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
