"""The most memory that this process takes while something runs, by the system's own account.

`getrusage` cannot tell it: a new process starts with the highest mark of the one that started it, so beside a large
worker everything reads as nothing, or as too much.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_MARKS = Path("/proc/self/clear_refs")

needs_peaks = pytest.mark.skipif(not _MARKS.exists(), reason="the system does not tell the peak memory of a process")


def _megabytes(field: str) -> float:
    (kilobytes,) = re.findall(field + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    return float(kilobytes) / 1e3


def printed_by(code: str, *words: str) -> str:
    """What a new process prints whose allocator gives back what is freed: where tests are to be fast it keeps it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


class PeakMemory:
    """Megabytes at the highest point so far, beyond what the process held when this was made."""

    def __init__(self) -> None:
        _MARKS.write_text("5")  # the highest mark starts anew, from what is held now
        self._before = _megabytes("VmRSS")

    @property
    def added(self) -> float:
        return _megabytes("VmHWM") - self._before
