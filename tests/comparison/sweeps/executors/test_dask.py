"""Sweeps on dask, with a real scheduler and worker processes that the tests start, kill and start again."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import dask
import distributed
import pandas as pd
import pytest
from distributed import Client

from geomfeat.comparison.sweeps._sweep import SweepResult, sweep
from geomfeat.comparison.sweeps.config_parts import SlurmConfig
from geomfeat.comparison.sweeps.executors import dask as engine_dask
from geomfeat.comparison.sweeps.executors.registry import engine_named, slurm_script
from geomfeat.errors import BadInput, GeomfeatError
from tests.comparison.sweeps_on_disk import finished, left_over, numbers, tiny, wait_for, weights
from tests.warm_process import IMPORTED, start_module, start_script, warm_context

# Six runs of half a second or so: long enough to be interrupted in the middle.
SIX = tiny(seeds=6, width=32, train={"target_loss": None, "max_steps": 300})
SWEEP = """
import os
import sys
if __name__ == "__main__":
    import geomfeat as gf
    from tests.comparison.sweeps.executors.test_dask import SIX, warm
    os.setpgrp()
    warm(["distributed", "geomfeat.comparison.sweeps.task"])
    try:
        print(gf.sweep(SIX, sys.argv[1], engine=sys.argv[2], workers=2, progress=False))
    except (KeyboardInterrupt, gf.GeomfeatError) as error:
        sys.exit(f"ended: {error!r}")
"""
pytestmark = pytest.mark.slow
Start = Callable[..., ForkServerProcess]


@pytest.fixture(autouse=True)
def collected_connections() -> Iterator[None]:
    """Distributed leaves some connections to killed processes to the garbage collector.

    They are collected here, for they would warn in whichever test the collector runs next.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `python -m WORDS`, and ends it after the test."""
    started: list[ForkServerProcess] = []

    def run(*words: object) -> ForkServerProcess:
        started.append(start_module(*map(str, words)))
        return started[-1]

    yield run
    for process in started:
        ended(process)


def ended(process: ForkServerProcess) -> None:
    process.kill()
    process.join()


def warm(imported: Sequence[str] = IMPORTED) -> dask.config.set:
    """Workers of this machine become copies of one process with these modules; by default each imports all again."""
    warm_context(imported)
    # dask's own list of what to load would take the place of that of the context.
    distributed.utils._forkserver_preload_set = True
    return dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})


@pytest.fixture
def warm_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(distributed.utils, "_forkserver_preload_set", True)
    with warm():
        yield


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def scheduler(start: Start, port: int) -> ForkServerProcess:
    words = ["--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-show", "--idle-timeout", "300s"]
    return start("distributed.cli.dask_scheduler", *words)


def worker_words(address: str, folder: Path) -> list[str]:
    words = ["--nthreads", 1, "--no-nanny", "--no-dashboard", "--local-directory", folder, "--memory-limit", 0,
             "--death-timeout", 60]  # fmt: skip
    return ["distributed.cli.dask_worker", address, *map(str, words)]


def worker(start: Start, address: str, folder: Path) -> ForkServerProcess:
    return start(*worker_words(address, folder))


@pytest.fixture
def cluster(start: Start, tmp_path: Path) -> tuple[str, list[ForkServerProcess]]:
    """(address, [scheduler, worker, worker]), when the workers are there."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    processes = [scheduler(start, port), *(worker(start, address, tmp_path / "dask") for _ in range(2))]
    with Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=90)
    return address, processes


def test_numbers_are_those_of_the_serial_engine_bit_for_bit(tmp_path: Path, warm_workers: None) -> None:
    config = tiny(
        train={"n": 30}, measure={"n": 30, "measures": ["capacity"], "location": {"n_probes": 16, "n_bootstrap": 2}}
    )
    serial = sweep(config, tmp_path / "serial", progress=False)
    local = sweep(config, tmp_path / "dask", engine="dask", workers=2, progress=False)
    pd.testing.assert_frame_equal(numbers(serial.table), numbers(local.table), check_exact=True)
    assert weights(tmp_path / "serial") == weights(tmp_path / "dask")
    assert left_over(tmp_path / "dask") == []


def test_a_killed_worker_loses_no_run_and_a_scheduler_that_comes_back_goes_on_with_the_rest(
    tmp_path: Path, start: Start, cluster: tuple[str, list[ForkServerProcess]]
) -> None:
    address, processes = cluster
    there: dict[Path, int] = {}

    def accidents() -> None:
        wait_for(lambda: finished(tmp_path / "out") >= 1)
        processes[1].kill()
        wait_for(lambda: finished(tmp_path / "out") >= 3)
        for process in processes:
            ended(process)
        there.update({p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("runs/*/run.json")})
        scheduler(start, int(address.rpartition(":")[2]))
        worker(start, address, tmp_path / "dask")

    going = threading.Thread(target=accidents)
    going.start()
    found = sweep(SIX, tmp_path / "out", engine=address, progress=False)
    going.join()
    assert found.outcomes == {"completed": 6}
    assert (finished(tmp_path / "out"), left_over(tmp_path / "out")) == (6, [])
    assert 3 <= len(there) < 6
    assert {p: p.stat().st_mtime_ns for p in there} == there  # what was there was not made again
    serial = sweep({**SIX, "seeds": [0, 5]}, tmp_path / "serial", progress=False)
    table = SweepResult.load(tmp_path / "out").table
    pd.testing.assert_frame_equal(numbers(table[table["seed"].isin([0, 5])]), numbers(serial.table))
    assert weights(tmp_path / "serial").items() <= weights(tmp_path / "out").items()


def test_a_scheduler_that_stays_away_is_reported_and_what_is_finished_kept(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_dask, "AWAY", 1.0)
    monkeypatch.setattr(engine_dask, "ANSWER", 3.0)
    port = free_port()
    own = scheduler(start, port)  # without workers: nothing is made before it goes away
    with Client(f"tcp://127.0.0.1:{port}", timeout=60, set_as_default=False) as client:

        def kill() -> None:
            wait_for(lambda: client.run_on_scheduler(_tasks) == 6)
            own.kill()

        threading.Thread(target=kill).start()
        with pytest.raises(GeomfeatError, match="stopped, and 6 runs were not made"):
            sweep(SIX, tmp_path, engine=f"tcp://127.0.0.1:{port}", progress=False)
    assert SweepResult.load(tmp_path).outcomes == {"missing": 6}


def _tasks(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def test_ctrl_c_ends_a_local_sweep_and_its_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SWEEP, encoding="utf-8")
    going = start_script(tmp_path / "script.py", tmp_path, tmp_path / "out", "dask")
    group = going.process.pid
    assert group is not None
    wait_for(lambda: finished(tmp_path / "out") >= 2)
    os.killpg(group, signal.SIGINT)  # as a terminal does: to the workers, too
    end = going.finished(timeout=120)
    assert "ended: KeyboardInterrupt" in end.stderr, end.stdout
    wait_for(lambda: not subprocess.run(["pgrep", "-g", str(group)], capture_output=True).stdout.strip())
    there = finished(tmp_path / "out")
    assert there < 6
    assert sweep(SIX, tmp_path / "out", progress=False).outcomes == {"completed": 6}
    assert left_over(tmp_path / "out") == []


def test_a_worker_with_other_code_is_reported_before_any_training(tmp_path: Path, start: Start) -> None:
    """The worker has a copy of the package with one line more."""
    shutil.copytree("geomfeat", tmp_path / "copy" / "geomfeat")  # with its bytecode, where there is any
    with (tmp_path / "copy" / "geomfeat" / "numerics.py").open("a") as file:
        file.write("# another line\n")
    port = free_port()
    scheduler(start, port)
    address = f"tcp://127.0.0.1:{port}"
    own = subprocess.Popen(
        [sys.executable, "-m", *worker_words(address, tmp_path / "dask")], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "copy")}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with own:
        try:
            with Client(address, timeout=60, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=90)
                versions = r"geomfeat 0.*\+\w{12} there, 0.*\+\w{12} here"
                with pytest.raises(BadInput, match=rf"1 of 1 workers have other versions \(tcp://.*: {versions}\)"):
                    sweep(SIX, tmp_path / "out", engine=address, progress=False)
        finally:
            own.kill()
    assert finished(tmp_path / "out") == 0


def test_a_scheduler_that_is_not_there_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_dask, "ANSWER", 0.5)
    with pytest.raises(BadInput, match=r"no dask scheduler answers at 'tcp://127.0.0.1:1' within 0.5 s"):
        sweep(SIX, tmp_path / "out", engine="tcp://127.0.0.1:1", progress=False)
    with pytest.raises(BadInput, match=r"'udp://x' is not the address of a scheduler: give scheme, host and port"):
        sweep(SIX, tmp_path / "out", engine="udp://x", progress=False)
    assert finished(tmp_path / "out") == 0


def test_the_job_script_asks_slurm_for_one_core_and_starts_one_worker() -> None:
    slurm = SlurmConfig(partition="long", account="lab", walltime="02:30:00", memory="8GB",
                        directives=["--constraint=avx2"], prologue=["module load python"])  # fmt: skip
    lines = slurm_script(slurm).splitlines()
    assert lines[0].startswith("#!")
    for line in ("-p long", "-A lab", "-n 1", "--cpus-per-task=1", "-t 02:30:00", "--mem=8G", "--constraint=avx2"):
        assert f"#SBATCH {line}" in lines
    (command,) = [line for line in lines if "dask_worker" in line]
    assert re.search(
        rf"^{re.escape(sys.executable)} -m distributed.cli.dask_worker tcp://SCHEDULER .*--nthreads 1 ", command
    )
    assert lines.index("module load python") < lines.index(command)
    assert "#SBATCH -p" not in slurm_script(SlurmConfig())


def test_a_job_has_a_gpu_where_its_runs_need_one_and_is_started_again() -> None:
    plain = slurm_script(SlurmConfig())
    assert "#SBATCH --requeue" in plain
    assert "gpu" not in plain
    assert "#SBATCH --gpus=1" in slurm_script(SlurmConfig(requeue=False), "cuda")
    assert "#SBATCH --no-requeue" in slurm_script(SlurmConfig(requeue=False))
    own = slurm_script(SlurmConfig(directives=["--gres=gpu:a100:1"]), "cuda")
    assert "#SBATCH --gres=gpu:a100:1" in own
    assert "--gpus=1" not in own


def test_the_engine_submits_jobs_with_a_gpu_for_runs_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(engine_dask, "slurm_jobs", lambda options, jobs: asked.append({**options, "jobs": jobs}))
    engine_named("slurm", 1, SlurmConfig(jobs=7), "cuda")
    engine_named("slurm", 1, SlurmConfig(jobs=2), "cpu")
    assert [(one["jobs"], "--gpus=1" in one["job_extra_directives"]) for one in asked] == [(7, True), (2, False)]
