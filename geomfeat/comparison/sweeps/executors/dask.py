"""Sweeps on dask: workers of this machine, a running scheduler, or jobs of a SLURM cluster.

Workers leave folders and return paths, so nothing is lost with a worker or a scheduler: what has no folder is handed
out again, as soon as the scheduler is there again.
"""

from __future__ import annotations

import logging
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster

from geomfeat.comparison.sweeps.executors.base import VISIBLE, Done, Engine, RunTask, failed, gpus
from geomfeat.comparison.sweeps.folder import is_finished
from geomfeat.comparison.sweeps.task import environment, run_task
from geomfeat.errors import BadInput, GeomfeatError

logger = logging.getLogger("geomfeat.sweep")
ANSWER = 10.0  # seconds in which a scheduler has to answer
AWAY = 300.0  # seconds for which a scheduler that was there may be away
CHECK_EVERY = 0.5  # seconds between two checks that the scheduler is running


def local(workers: int) -> Engine:
    """An engine of so many processes on this machine, with one thread each."""

    @contextmanager
    def cluster() -> Iterator[str]:
        # Port 0 means any free one: by default the dashboard would take 8787, which another cluster may use.
        quiet: dict[str, Any] = {"dashboard_address": ":0", "silence_logs": logging.ERROR}
        made: Any = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, **quiet)
        with made:
            yield str(made.scheduler_address)

    return _on(cluster)


def one_for_each_gpu() -> Engine:
    """An engine of one process for each GPU of this machine; a process sees no other GPU, and calls its own cuda."""

    @contextmanager
    def cluster() -> Iterator[str]:
        quiet: dict[str, Any] = {"silence_logs": logging.ERROR}
        workers = {
            number: {"cls": Nanny, "options": {"nthreads": 1, "env": {VISIBLE: gpu}, **quiet}}
            for number, gpu in enumerate(gpus())
        }
        made: Any = SpecCluster(
            workers=workers, scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": ":0"}},
            **quiet,
        )  # fmt: skip
        with made:
            yield str(made.scheduler_address)

    return _on(cluster)


def remote(address: str) -> Engine:
    """An engine on the scheduler at this address. Its workers must see the sweep's folder under the same path."""

    @contextmanager
    def cluster() -> Iterator[str]:
        yield address

    return _on(cluster)


def slurm_jobs(options: dict[str, Any], jobs: int) -> Engine:
    """An engine of so many SLURM jobs, submitted with these options of dask-jobqueue's SLURMCluster."""

    @contextmanager
    def cluster() -> Iterator[str]:
        from dask_jobqueue.slurm import SLURMCluster

        made: Any = SLURMCluster(**options)
        with made:
            made.scale(jobs=jobs)
            yield str(made.scheduler_address)

    return _on(cluster)


def _on(cluster: Callable[[], AbstractContextManager[str]]) -> Engine:
    def engine(tasks: Iterable[RunTask], root: Path, version: str) -> Iterator[Done]:
        with cluster() as address:
            yield from through(address, tasks, root.resolve(), version)

    return engine


def through(address: str, tasks: Iterable[RunTask], root: Path, version: str) -> Iterator[Done]:
    """The tasks, through the scheduler at `address`, also when it goes away in between and comes back.

    Raises BadInput where no scheduler answers, or its workers have other code; GeomfeatError where it stays away;
    OSError where nothing more can be written.
    """
    left = {task.address: task for task in tasks}
    with _client(address) as client:
        _check_workers(client)
        yield from _handed_out(client, left, root, version)
    while left:
        logger.warning("the scheduler at %s is away; %d runs wait for it", address, len(left))
        with _returned(address, len(left)) as client:
            there = [a for a in left if is_finished(root, a)]
            for name in there:
                yield Done(left.pop(name).address)
            yield from _handed_out(client, left, root, version)


def _handed_out(client: Any, left: dict[str, RunTask], root: Path, version: str) -> Iterator[Done]:
    """Hand out the tasks in `left`, taking out each that is done; ends when all are, or the scheduler is away."""
    if not left:
        return
    tasks, ended = list(left.values()), queue.SimpleQueue[Any]()
    call = uuid.uuid4().hex[:8]  # a key of its own: an error that another sweep met is not handed on
    keys = [f"run-{task.address}-{call}" for task in tasks]
    options = {"root": str(root), "version": version, "device": tasks[0].device}  # the same for all runs of a sweep
    futures = client.map(run_task, [t.config for t in tasks], key=keys, pure=False, retries=0, **options)
    by_key = dict(zip(keys, tasks, strict=True))
    for future in futures:
        future.add_done_callback(ended.put)
    try:
        while left:
            try:
                future = ended.get(timeout=CHECK_EVERY)
            except queue.Empty:
                if client.status != "running":
                    return
                continue
            if future.status in ("cancelled", "lost"):
                return
            task = by_key[str(future.key)]
            if left.pop(task.address, None) is not None:
                error = future.exception() if future.status == "error" else None
                yield Done(task.address) if error is None else failed(task, error)
                future.release()
    finally:
        if client.status == "running":
            client.cancel(futures, force=True)


def _client(address: str) -> Any:
    try:
        return Client(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as cause:
        raise BadInput(
            f"no dask scheduler answers at {address!r} within {ANSWER:g} s ({cause or type(cause).__name__}): start "
            "one with `dask scheduler` and give the address that it prints"
        ) from cause


def _returned(address: str, left: int) -> Any:
    until = time.monotonic() + AWAY
    while True:
        try:
            return _client(address)
        except BadInput as cause:
            if time.monotonic() > until:
                raise GeomfeatError(
                    f"the scheduler at {address!r} stopped, and {left} runs were not made. Finished runs are saved: "
                    "start it again, and the same command goes on"
                ) from cause
            time.sleep(CHECK_EVERY)


def _check_workers(client: Any) -> None:
    """BadInput that names a worker whose code or packages are not those here. The task itself refuses late ones."""
    here = environment()
    try:
        there = client.run(environment)
    except Exception as cause:
        raise BadInput(
            f"the workers cannot run geomfeat's tasks ({cause}): install geomfeat {here['geomfeat']} there"
        ) from cause
    odd = {worker: found for worker, found in there.items() if found != here}
    for worker, found in odd.items():
        how = ", ".join(f"{name} {found.get(name)} there, {value} here" for name, value in here.items()
                        if found.get(name) != value)  # fmt: skip
        raise BadInput(
            f"{len(odd)} of {len(there)} workers have other versions ({worker}: {how}); numbers would depend on the "
            "worker: install the same ones everywhere"
        )
