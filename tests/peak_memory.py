"""The most memory that this process takes while something runs, by the system's own account.

`getrusage` cannot tell it: a new process starts with the highest mark of the one that started it, so beside a large
worker everything reads as nothing, or as too much.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from tests.warm_process import run_code

# mallopt's M_TRIM_THRESHOLD (-1) and M_MMAP_THRESHOLD (-3), as they are where nobody sets them.
GIVE_BACK = """
import ctypes

for parameter in (-1, -3):
    ctypes.CDLL(None).mallopt(parameter, 2**17)
"""
_MARKS = Path("/proc/self/clear_refs")

needs_peaks = pytest.mark.skipif(not _MARKS.exists(), reason="the system does not tell the peak memory of a process")


def _megabytes(field: str) -> float:
    (kilobytes,) = re.findall(field + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    return float(kilobytes) / 1e3


def printed_by(code: str, *words: str) -> str:
    """What a new process prints whose allocator gives back what is freed: where tests are to be fast it keeps it."""
    with tempfile.TemporaryDirectory() as folder:
        return run_code(GIVE_BACK + code, Path(folder), *words).stdout


class PeakMemory:
    """Megabytes at the highest point so far, beyond what the process held when this was made."""

    def __init__(self) -> None:
        _MARKS.write_text("5")  # the highest mark starts anew, from what is held now
        self._before = _megabytes("VmRSS")

    @property
    def added(self) -> float:
        return _megabytes("VmHWM") - self._before
