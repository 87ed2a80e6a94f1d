"""Locks where the system has those of POSIX, those of Windows, or none; the last two are simulated."""

from __future__ import annotations

import errno
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from geomfeat.comparison.sweeps.folder import claimed
from geomfeat.storage import locks
from geomfeat.storage.locks import lock


class Windows:
    """msvcrt's locks of one byte of a file, as its documentation has them: another holder gives EACCES at once."""

    LK_NBLCK = 2

    def __init__(self, busy: int = 0, error: int = errno.EACCES) -> None:
        self.busy, self.error, self.tries, self.at = busy, error, 0, list[int]()

    def locking(self, descriptor: int, mode: int, n_bytes: int) -> None:
        assert (mode, n_bytes) == (self.LK_NBLCK, 1)
        self.tries += 1
        self.at.append(descriptor)
        if self.tries <= self.busy:
            raise OSError(self.error, "locked")


@pytest.fixture
def file(tmp_path: Path) -> Any:
    with (tmp_path / "claim").open("a") as opened:
        yield opened


def test_a_second_opening_of_a_locked_file_does_not_get_the_lock(tmp_path: Path, file: IO[str]) -> None:
    assert lock(file, wait=False) == "held"
    with (tmp_path / "claim").open("a") as other:
        assert lock(other, wait=False) == "held elsewhere"
    file.close()
    with (tmp_path / "claim").open("a") as other:
        assert lock(other, wait=False) == "held"


def test_windows_locks_are_taken_or_reported(file: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    free = Windows()
    monkeypatch.setattr(locks, "msvcrt", free)
    assert lock(file, wait=False) == "held"
    assert free.at == [file.fileno()]
    monkeypatch.setattr(locks, "msvcrt", Windows(busy=1))
    assert lock(file, wait=False) == "held elsewhere"
    monkeypatch.setattr(locks, "msvcrt", Windows(busy=1, error=errno.EINVAL))
    assert lock(file, wait=False) == "no locks"


def test_windows_locks_are_waited_for(file: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Windows(busy=3)
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", busy)
    monkeypatch.setattr(locks, "PAUSE", 0.0)
    assert lock(file, wait=True) == "held"
    assert busy.tries == 4


def test_a_file_system_without_locks_is_reported(file: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(locks, "fcntl", SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4))
    assert lock(file, wait=False) == "no locks"


def test_the_module_is_imported_where_python_has_no_locks(monkeypatch: pytest.MonkeyPatch, file: IO[str]) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # an import of it raises ImportError
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    try:
        without = importlib.reload(locks)
        assert without.lock(file, wait=False) == "no locks"
    finally:
        monkeypatch.undo()
        importlib.reload(locks)
    assert locks.lock(file, wait=False) == "held"


@pytest.mark.parametrize(("busy", "mine"), [(0, True), (1, False)])
def test_runs_of_a_sweep_are_claimed_on_windows(
    tmp_path: Path, busy: int, mine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", Windows(busy=busy))
    with claimed(tmp_path, "0" * 20, wait=False) as alone:
        assert alone == mine
