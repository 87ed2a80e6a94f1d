"""Locks on open files, by whatever the operating system has: they end with the process that holds them.

POSIX systems lock whole files (`fcntl`), Windows ranges of bytes (`msvcrt`). Where Python has neither, and on file
systems without locks, nothing is locked, and the caller gets "no locks".
"""

from __future__ import annotations

import errno
import time
from typing import IO, Any, Literal

try:
    import fcntl
except ImportError:  # Windows
    fcntl: Any = None
try:
    import msvcrt
except ImportError:  # all other systems
    msvcrt: Any = None

HELD_ELSEWHERE = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
PAUSE = 0.2  # seconds between two tries where the system cannot wait for a lock

State = Literal["held", "held elsewhere", "no locks"]


def lock(file: IO[Any], *, wait: bool) -> State:
    """Lock an open file against other processes until it is closed.

    Args:
        wait: for the process that holds it to end; else "held elsewhere" is returned at once.

    >>> import tempfile
    >>> with tempfile.TemporaryFile("a") as file:
    ...     lock(file, wait=False)
    'held'
    """
    if fcntl is not None:
        return _by_posix(file, wait)
    return _by_windows(file, wait) if msvcrt is not None else "no locks"


def _by_posix(file: IO[Any], wait: bool) -> State:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return "held elsewhere"
    except OSError:
        return "no locks"
    return "held"


def _by_windows(file: IO[Any], wait: bool) -> State:
    """The first byte, which may lie behind the end. The system's own way to wait gives up after ten seconds."""
    while True:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno not in HELD_ELSEWHERE:
                return "no locks"
            if not wait:
                return "held elsewhere"
            time.sleep(PAUSE)
        else:
            return "held"
