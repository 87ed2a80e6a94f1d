"""Small sweeps for the tests: networks of 8 units on 50 digits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

Counted = list[str]
TINY: dict[str, Any] = {
    "width": 8, "seeds": 2, "train": {"n": 50, "target_loss": 0.5, "max_steps": 300},
    "measure": {"measures": ["stable_rank"], "location": False, "n": 50},
}  # fmt: skip


def tiny(**changes: Any) -> dict[str, Any]:
    """The config of a tiny sweep; what is given for train or measure is added to what is there."""
    merged = {k: {**TINY[k], **v} if isinstance(v, dict) and k in TINY else v for k, v in changes.items()}
    return {**TINY, **merged}


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """A sweep's table without what differs between two calls: the time it took."""
    return table.drop(columns="seconds").sort_values(["run", "at", "layer", "measure", "quantity"], ignore_index=True)


def weights(folder: Path) -> dict[str, bytes]:
    """The bytes of all weights of a sweep, and of its rates, by run and name."""
    return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in sorted(folder.glob("runs/*/*.safetensors"))}


def left_over(folder: Path) -> list[Path]:
    """Files that a finished sweep should not have: unfinished runs, and parts of files."""
    return [*(folder / ".partial").glob("*"), *folder.rglob("*.part")]


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Until the condition holds; an AssertionError after so many seconds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def finished(folder: Path) -> int:
    """How many runs are there."""
    return len(list(folder.glob("runs/*")))
