"""Run a hostile call in this process and tell what is wrong with how it ended."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from geomfeat.cli import app
from tests.cli.hostile.calls import Call, call_of
from tests.cli.hostile.world import inside

SECONDS = 120
# Runs that could not be made, or numbers outside of their tolerance, end with 1.
ONE = ("sweep", "lab")
TEMPORARY = re.compile(r"\.part$|\.tmp|\.replaced$|\.damaged$|^\..*\.(npz|json|html|parquet|safetensors)")


class TooLong(BaseException):
    """A call did not end."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with the end of a call."""

    number: int
    call: Call
    what: str
    detail: str

    def __str__(self) -> str:
        return f"[{self.number}] {self.what}: {self.call.about}\n    {' '.join(self.call.words)}\n    {self.detail}"


def judged(world: Path, scratch: Path, seed: int, number: int) -> tuple[Call, int, list[Fault]]:
    """Call `number` of a seed, made in a fresh copy of `world`: (the call, its exit code, its faults)."""
    folder = scratch / f"{seed}-{number}"
    shutil.copytree(world, folder)
    try:
        with inside(folder):
            chance = random.Random(f"{seed} {number}")
            call = call_of(chance)
            before = _listing(folder)
            result, said = _run(call)
            found = [*_of_end(call, result, said), *_of_files(call, result, before, _listing(folder))]
            return call, result.exit_code, [Fault(number, call, what, detail) for what, detail in found]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(call: Call) -> tuple[Result, list[str]]:
    with warnings.catch_warnings(record=True) as caught, _in_time():
        warnings.resetwarnings()
        try:
            result = CliRunner().invoke(app, list(call.words))
        except TooLong:
            result = _not_ended()
    shown = [
        w
        for w in caught
        if not issubclass(w.category, DeprecationWarning | PendingDeprecationWarning | ResourceWarning)
    ]
    return result, [f"{w.category.__name__}: {w.message}" for w in shown]


def _not_ended() -> Result:
    """The result of a call that was stopped."""
    runner: Any = CliRunner()
    return Result(runner, b"", b"", b"", None, -1, TimeoutError(f"no end within {SECONDS} s"))


@contextmanager
def _in_time() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _of_end(call: Call, result: Result, warned: list[str]) -> list[tuple[str, str]]:
    """Faults of exit code and words."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        frames = traceback.format_tb(result.exception.__traceback__)[-3:]
        return [("traceback", f"{type(result.exception).__name__}: {str(result.exception)[:300]}\n{''.join(frames)}")]
    # Bars of progress are written over again and again in one line.
    lines = [line for line in result.stderr.splitlines() if line.strip() and "%|" not in line]
    if any(line.startswith("Traceback") for line in lines) and "--debug" not in call.words:
        return [("traceback shown", result.stderr[-2000:])]
    if any("This is a bug in geomfeat" in line for line in lines):
        return [("last resort", result.stderr[-2000:])]
    if result.exit_code == 1 and call.words[0] in ONE:
        return []
    if result.exit_code not in (0, 2):
        return [(f"exit code {result.exit_code}", result.stderr[-500:])]
    if result.exit_code == 0 or "--debug" in call.words:
        return []
    if len(lines) != 1 or not lines[0].startswith("geomfeat: "):
        return [("not one sentence", result.stderr[-1500:] or "(stderr is empty)")]
    if warned:
        return [("warnings besides the sentence", " | ".join(warned)[:500])]
    given = [repr(word.partition("=")[2] if word.startswith("--") else word) for word in call.words]
    if not any(word in lines[0] for word in (*call.blame, *given[1:])):
        return [("names neither file nor option", f"{lines[0][:600]}\n    wanted one of {call.blame}")]
    return []


def _of_files(call: Call, result: Result, before: dict[str, str], after: dict[str, str]) -> list[tuple[str, str]]:
    """Faults of what is on the disk."""
    found = []
    left = [name for name in after if name not in before and TEMPORARY.search(Path(name).name)]
    if left:
        found.append(("left half written", ", ".join(left[:5])))
    if after.get("kept/notes.txt") != before["kept/notes.txt"] or any(name not in after for name in _foreign(before)):
        found.append(("a foreign file was changed", ", ".join(n for n in _foreign(before) if n not in after)))
    if result.exit_code == 2:
        new = [
            n
            for n in after
            if before.get(n) != after[n] and not n.startswith(call.may_write) and "__pycache__" not in n
        ]
        gone = [n for n in before if n not in after and not n.startswith(call.may_write) and "__pycache__" not in n]
        if new or gone:
            found.append(("refused, but wrote or removed", ", ".join([*new, *(f"-{n}" for n in gone)][:6])))
    return found


def _foreign(listing: dict[str, str]) -> list[str]:
    """What the command did not write: all that lies outside of the folders that it made."""
    own = ("study/", "comparison/", "sweep/", "store/", "out")
    return [name for name in listing if not name.startswith(own) and "__pycache__" not in name]


def _listing(folder: Path) -> dict[str, str]:
    """Every file with the hash of its content, and every other thing with its kind."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root) / name
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = f"link {os.readlink(path)}"
            elif path.is_file():
                found[key] = hashlib.md5(path.read_bytes()).hexdigest()
            else:
                found[key] = "folder"
    return found
