"""What every benchmark says of the machine, and how it keeps its tables in RESULTS.md."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "RESULTS.md"


def machine(packages: Sequence[str], threads: int) -> str:
    """Where, with which of the packages that are there, and how busy it was."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages if find_spec(MODULES.get(name, name)))
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "?"
    where = f"{platform.machine()}, {threads} thread{'s' * (threads > 1)}, Python {platform.python_version()}"
    return f"{where}, {versions}; {time.strftime('%Y-%m-%d')}, load {load} at the end"


MODULES = {"scikit-dimension": "skdim", "scikit-learn": "sklearn", "pytorch-cka": "cka"}


def memory(field: str) -> float:
    """Megabytes that this process holds now (VmRSS), or has held at most (VmHWM)."""
    (kilobytes,) = re.findall(field + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    return float(kilobytes) / 1e3


def added_memory(work: Callable[[], Any]) -> float:
    """Megabytes that a call takes at its highest, beyond what the process held before."""
    Path("/proc/self/clear_refs").write_text("5")  # a new process starts with the highest mark of its parent
    before = memory("VmRSS")
    work()
    return memory("VmHWM") - before


def keep(name: str, lines: Sequence[str], part: str = "") -> None:
    """Replace what stands between the marks of a benchmark in RESULTS.md; ValueError where it has no marks there.

    `part`: of its tables, where they are kept apart.
    """
    marks = f"<!-- {name}{part}: written by benchmarks/{name}.py -->", f"<!-- end of {name}{part} -->"
    between = re.compile(re.escape(marks[0]) + ".*" + re.escape(marks[1]), re.S)
    body = "\n".join([marks[0], "", *lines, "", marks[1]])
    text, found = between.subn(lambda _: body, RESULTS.read_text(encoding="utf-8"))
    if not found:
        raise ValueError(f"{RESULTS.name} has no line {marks[0]!r} with {marks[1]!r} below it")
    RESULTS.write_text(text, encoding="utf-8")
