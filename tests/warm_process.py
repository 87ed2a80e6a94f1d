"""Scripts in processes of their own that need not import torch and geomfeat again: copies of one that has.

Fifteen scripts (tutorials, examples of the README) would each spend three seconds on the same imports.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import warnings
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

# What the first of these processes imports, before it is copied; it computes nothing, so that no thread is running.
IMPORTED = ["tests.warm_imports"]


@dataclass(frozen=True)
class Finished:
    """How a script ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run_script(path: Path, folder: Path) -> Finished:
    """Run a Python file from top to bottom in `folder`, with warnings as errors; waits for its end."""
    context = multiprocessing.get_context("forkserver")
    assert isinstance(context, ForkServerContext)
    context.set_forkserver_preload(IMPORTED)
    printed = {name: folder / f".{name}" for name in ("stdout", "stderr")}
    process = context.Process(target=_run, args=(path, folder, printed))
    process.start()
    process.join()
    assert process.exitcode is not None
    texts = {name: file.read_text(encoding="utf-8") for name, file in printed.items()}
    return Finished(process.exitcode, **texts)


def _run(path: Path, folder: Path, printed: dict[str, Path]) -> None:
    for number, file in ((1, printed["stdout"]), (2, printed["stderr"])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    sys.argv = [str(path)]
    sys.path.insert(0, str(path.parent))
    warnings.simplefilter("error")
    runpy.run_path(str(path), run_name="__main__")  # an error ends the process with its traceback
