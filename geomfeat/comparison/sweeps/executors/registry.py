"""The engine of a name."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from shutil import which
from typing import Any

from geomfeat.comparison.sweeps.config_parts import SlurmConfig
from geomfeat.comparison.sweeps.config_values import DEVICES
from geomfeat.comparison.sweeps.executors.base import Engine, serial
from geomfeat.errors import BadInput, near
from geomfeat.numerics import resolve_device

HERE = ("serial", "dask")  # these compute on this machine
NAMES = ("serial", "dask", "slurm")
DEVICE = re.compile(DEVICES)
ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss|inproc)://\S+:\d+")


def engine_named(name: str, workers: int, slurm: SlurmConfig, device: str = "cpu") -> Engine:
    """ "serial", "dask" (`workers` processes here), "slurm", or the address of a running dask scheduler.

    device: of the runs; "cuda" gives "dask" one process for each GPU in place of `workers`.

    Raises BadInput for another name, an address without a port, no workers, or where dask is not installed.
    """
    if name == "serial":
        return serial
    if name not in NAMES and "://" not in name:
        raise BadInput(f"engine={name!r}: near: {near(name, NAMES)}; or the address of a scheduler, tcp://host:port")
    if name not in NAMES and not ADDRESS.fullmatch(name):
        raise BadInput(
            f"engine={name!r} is not the address of a scheduler: give scheme, host and port, as in tcp://host:8786"
        )
    if workers < 1:
        raise BadInput(f"workers={workers}: at least 1")
    _require("distributed", name)
    if name == "slurm":
        _require("dask_jobqueue", name)
    from geomfeat.comparison.sweeps.executors.dask import local, one_for_each_gpu, remote, slurm_jobs

    if name == "dask":
        return one_for_each_gpu() if device == "cuda" else local(workers)
    return slurm_jobs(slurm_options(slurm, device), slurm.jobs) if name == "slurm" else remote(name)


def device_of_runs(engine: str, device: str | None) -> str:
    """The device of a sweep's runs, checked; "auto" is decided here, or by workers on other machines there.

    Raises BadInput for what is no device, and for one that is not here where the runs are made here.
    """
    if device is None:
        return "cpu"
    if engine in HERE:
        return str(resolve_device(device))
    if not DEVICE.fullmatch(device):
        raise BadInput(f"device={device!r} is not a device: use 'cpu', 'cuda', 'cuda:1' or 'auto'")
    return device


def require_submit(name: str) -> None:
    """BadInput where an engine needs sbatch, and this machine has none; a dry run needs none."""
    if name == "slurm" and which("sbatch") is None:
        raise BadInput(
            f"engine={name!r} needs sbatch, which is not on this machine: run it where SLURM is installed, or use "
            "engine='dask'"
        )


def slurm_options(slurm: SlurmConfig, device: str = "cpu") -> dict[str, Any]:
    """Options for dask-jobqueue: jobs of one process on one core, with this Python, and with one GPU for "cuda".

    A directive of the user's that names GPUs stands in place of that, since clusters differ in how they give them.
    """
    directives = ["--requeue" if slurm.requeue else "--no-requeue", *slurm.directives]
    if device.startswith("cuda") and not any("gpu" in directive or "gres" in directive for directive in directives):
        directives.append("--gpus=1")
    return {
        "queue": slurm.partition, "account": slurm.account, "walltime": slurm.walltime, "memory": slurm.memory,
        "cores": 1, "processes": 1, "job_extra_directives": directives,
        "job_script_prologue": list(slurm.prologue), "python": sys.executable, "job_name": "geomfeat",
    }  # fmt: skip


def slurm_script(slurm: SlurmConfig, device: str = "cpu") -> str:
    """The job script that `--engine slurm` hands to sbatch; the scheduler's address is known when it runs."""
    _require("dask_jobqueue", "slurm")
    from dask_jobqueue.slurm import SLURMJob

    return str(SLURMJob(scheduler="tcp://SCHEDULER", name="geomfeat", **slurm_options(slurm, device)).job_script())


def _require(package: str, engine: str) -> None:
    if find_spec(package) is None:
        raise BadInput(f"engine={engine!r} needs {package}: pip install 'geomfeat[distributed]'")
