"""Scripts in processes of their own that need not import torch and geomfeat again: copies of one that has.

Twenty scripts (tutorials, examples, sweeps that are ended) would each spend three seconds on the same imports.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

# What the first of these processes imports, before it is copied; it computes nothing, so that no thread is running.
IMPORTED = ["tests.warm_imports"]


@dataclass(frozen=True)
class Finished:
    """How a script ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def warm_context(imported: Sequence[str] = IMPORTED) -> ForkServerContext:
    """Where such processes are started, with these modules."""
    context = multiprocessing.get_context("forkserver")
    assert isinstance(context, ForkServerContext)
    context.set_forkserver_preload(list(imported))
    return context


@dataclass(frozen=True)
class Running:
    """A script that was started."""

    process: ForkServerProcess
    printed: dict[str, Path]

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def finished(self, timeout: float | None = None) -> Finished:
        """Waits for its end, at most so many seconds."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"a script was not finished after {timeout} s")
        texts = {name: file.read_text(encoding="utf-8") for name, file in self.printed.items()}
        return Finished(self.process.exitcode, **texts)


def start_script(path: Path, folder: Path, *words: object) -> Running:
    """Start a Python file in `folder`, with these words as its arguments and warnings as errors."""
    printed = {name: folder / f".{path.stem}.{name}" for name in ("stdout", "stderr")}
    process = warm_context().Process(target=_run, args=(path, folder, printed, list(map(str, words))))
    process.start()
    return Running(process, printed)


def run_script(path: Path, folder: Path) -> Finished:
    """Run a Python file from top to bottom in `folder`, with warnings as errors; waits for its end."""
    return start_script(path, folder).finished()


def run_code(code: str, folder: Path, *words: object) -> Finished:
    """Run Python code in `folder`, with these words as its arguments; waits for its end, which must be a good one."""
    path = folder / "code.py"
    path.write_text(code, encoding="utf-8")
    found = start_script(path, folder, *words).finished(timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
    return found


def start_module(name: str, *words: object) -> ForkServerProcess:
    """Start `python -m NAME WORDS`, which prints to nowhere; `kill` and `join` it."""
    process = warm_context().Process(target=_run_module, args=(name, list(map(str, words))))
    process.start()
    return process


def _run_module(name: str, words: list[str]) -> None:
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    sys.argv = [name, *words]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run(path: Path, folder: Path, printed: dict[str, Path], words: list[str]) -> None:
    for number, file in ((1, printed["stdout"]), (2, printed["stderr"])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    # What a shell starts in the background ignores Ctrl-C, and so does all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [str(path), *words]
    sys.path.insert(0, str(path.parent))
    warnings.simplefilter("error")
    runpy.run_path(str(path), run_name="__main__")  # an error ends the process with its traceback
