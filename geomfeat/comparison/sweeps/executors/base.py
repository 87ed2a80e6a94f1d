"""Engines: what runs the tasks of a sweep. All call the same function, `run_task`, and report the outcome of each.

"serial" is this process; the others are in `engine_dask`.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from geomfeat.comparison.sweeps.task import run_task

logger = logging.getLogger("geomfeat.sweep")
VISIBLE = "CUDA_VISIBLE_DEVICES"
# Failures to write that every other task would meet too.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class RunTask:
    """One run to make: the name of its folder, its config as JSON, and on which device it is computed."""

    address: str
    config: str
    device: str = "cpu"


@dataclass(frozen=True)
class Done:
    """What became of a task: `error` is "" where its folder is there."""

    address: str
    error: str = ""


Engine = Callable[[Iterable[RunTask], Path, str], Iterator[Done]]


def gpus() -> list[str]:
    """The GPUs that this process sees, by the names that make one of them visible to another process."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def serial(tasks: Iterable[RunTask], root: Path, version: str) -> Iterator[Done]:
    """One task after the other in this process. Those that another process makes now come last.

    A task's exception is reported and the next task runs; OSError if nothing more can be written.
    """
    held = []
    for task in tasks:
        done = _one(task, root, version, wait=False)
        if done is None:
            held.append(task)
        else:
            yield done
    for task in held:
        done = _one(task, root, version, wait=True)
        assert done is not None
        yield done


def _one(task: RunTask, root: Path, version: str, *, wait: bool) -> Done | None:
    try:
        path = run_task(task.config, str(root), version, wait, task.device)
    except Exception as error:  # noqa: BLE001 - one run's bug must not cost the others: it is logged and reported
        return failed(task, error)
    return None if path is None else Done(task.address)


def failed(task: RunTask, error: BaseException) -> Done:
    """The task with its error in words; raises it again where no task could be written."""
    if isinstance(error, OSError) and error.errno in FULL:
        raise error
    logger.debug(
        "run %s failed", task.address, exc_info=error
    )  # the result reports it; the traceback shows with --debug
    return Done(task.address, f"{type(error).__name__}: {' '.join(str(error).split())}")
