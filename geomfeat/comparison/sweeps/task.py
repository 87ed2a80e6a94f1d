"""The task of every engine: a pure function of a run's config that leaves a folder and returns its path."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from geomfeat._numba.threads import libraries_on_one_thread
from geomfeat._version import __version__
from geomfeat.activations import ExtractOptions
from geomfeat.comparison.sweeps.config_parts import LocationConfig, PlainTrainConfig
from geomfeat.comparison.sweeps.folder import (
    OPTIMIZER,
    RUNS,
    TABLE,
    claimed,
    is_finished,
    require_replaceable,
    write_run,
    write_table,
)
from geomfeat.comparison.sweeps.grid import dataset_of
from geomfeat.comparison.sweeps.outcomes import QUANTITIES, TrainedRun
from geomfeat.comparison.sweeps.plain_goal import NEXT_TOKEN, loss_named, plain_loss
from geomfeat.comparison.sweeps.run_config import RunConfig
from geomfeat.comparison.sweeps.train import train_run
from geomfeat.comparison.sweeps.transfer import transfer_rows
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput, GeomfeatError
from geomfeat.location.options import LocateOptions
from geomfeat.models.weights.checkpoints import weights_content
from geomfeat.numerics import Device, resolve_device
from geomfeat.registry import get
from geomfeat.study import StudyOptions, analyze
from geomfeat.study.location_rows import WHOLE as LOCATION_QUANTITIES
from geomfeat.study.table import Row, failed_rows, row, table_of
from geomfeat.tangent.optimizer_rates import OptimizerRates, rates_content
from geomfeat.types import Estimate, Snapshot

# Packages whose code decides no number of a run, and those of their modules that do.
ASIDE = {"cli", "report", "compat", "comparison", "lab"}
OWN = {
    f"comparison/sweeps/{name}.py"
    for name in (
        "config", "config_parts", "config_schemas", "config_values", "grid", "outcomes", "own_networks",
        "own_runs", "plain_goal", "plain_train", "run_config", "task", "train", "transfer",
    )
}  # fmt: skip
# A study measures something; where only the location is asked for, this is dropped again.
CHEAP = ["stable_rank"]
# Why a training that went well may lack a number.
ABSENT = {"stability": "eta was not given: it followed the curvature", "test_loss": "the data have no test samples",
          "test_accuracy": "the data have no test samples"}  # fmt: skip
ABSENT_PLAINLY = dict.fromkeys(
    ("stability", "sharpness", "sharpness_initial"), "known of trainings at an output scale alone: give gamma"
) | dict.fromkeys(("train_accuracy", "test_accuracy"), "there are no classes, or no test samples")
COLUMN_TYPES = {"sigma": "float64", "eta": "float64", "gamma": "float64", "width": "Int64", "depth": "Int64",
                "batch_size": "Int64", "gain": "float64", "rank": "Int64", "data": "str", "architecture": "str",
                "parameterization": "str", "optimizer": "str", "outcome": "str"}  # fmt: skip


@cache
def code_version() -> str:
    """The version of geomfeat with 12 digits of the SHA-256 of the source that decides a run's numbers."""
    home = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        name = path.relative_to(home)
        if name.parts[0] not in ASIDE or name.as_posix() in OWN:
            digest.update(f"{name.as_posix()}\n".encode() + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def environment() -> dict[str, str]:
    """What must be equal on all workers for equal numbers."""
    return {"geomfeat": code_version(), "torch": torch.__version__, "numpy": np.__version__,
            "python": ".".join(platform.python_version_tuple()[:2])}  # fmt: skip


def run_task(config: str, root: str, version: str, wait: bool = True, device: str = "cpu") -> str | None:
    """Train and measure one run, on one thread, and write its folder; returns the folder's path.

    Args:
        config: a RunConfig as JSON. root: the sweep's folder, the same for all processes. version: of the code that
            planned it.
        wait: for another process that makes this run now; else None is returned for it at once.
        device: where the network is trained and measured.

    A run that is there is not made again. The numbers depend on the config alone, up to the rounding of a device.

    Raises BadInput where this process has other code or data than the sweep was planned with; OutputExists where the
    run's folder holds a file that geomfeat did not write; WriteFailed for a full disk.
    """
    if version != code_version():
        raise BadInput(
            f"this worker has geomfeat {code_version()}, and the sweep was planned with {version}: "
            "install the same version everywhere"
        )
    run, folder = RunConfig.model_validate_json(config), Path(root)
    address = run.address(version)
    if is_finished(folder, address):
        return str(folder / RUNS / address)
    with claimed(folder, address, wait=wait) as mine:
        if not mine:
            return None
        if is_finished(folder, address):
            return str(folder / RUNS / address)
        require_replaceable(folder, address)
        began, where = time.perf_counter(), resolve_device(device)
        with libraries_on_one_thread(), torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
            data = dataset_of(run)
            trained = train_run(run, data, where)
            table = run_table(run, data, trained, address, where)
        kept = {"init": trained.initial, **{f"step_{s:07d}": m for s, m in trained.snapshots.items()},
                "trained": trained.trained}  # fmt: skip
        writers: dict[str, Any] = {
            f"{name}.safetensors": partial(_write_weights, m) for name, m in kept.items() if m is not None
        }
        if trained.rates is not None and not _is_plain_descent(trained):  # file systems of clusters count files
            writers[OPTIMIZER] = partial(_write_rates, trained.rates)
        writers[TABLE] = lambda path: write_table(path, table)
        manifest = {
            "version": version, "environment": environment(), "config": json.loads(run.identity()),
            "outcome": trained.outcome, "note": trained.note,
            "seconds": time.perf_counter() - began, "device": str(where),
        }  # fmt: skip
        return str(write_run(folder, address, writers, manifest))


def _is_plain_descent(trained: TrainedRun) -> bool:
    model, rates = trained.trained, trained.rates
    learned = [] if model is None else [name for name, p in model.named_parameters() if p.requires_grad]
    return rates is not None and rates.are_plain(learned)


def _write_weights(model: nn.Module, path: Path) -> None:
    """Without waiting for the disk: a file that a power failure cuts is noticed by its sum, and made again."""
    path.write_bytes(weights_content(model))


def _write_rates(rates: OptimizerRates, path: Path) -> None:
    path.write_bytes(rates_content(rates))


def run_table(run: RunConfig, data: Dataset, trained: TrainedRun, name: str, device: Device = "cpu") -> pd.DataFrame:
    """All rows of a run: measure "training" first, then what was measured. Failures are rows with the reason."""
    absent = ABSENT | (ABSENT_PLAINLY if isinstance(run.train, PlainTrainConfig) else {})
    rows = [_training_row(q, trained, data.n, absent) for q in QUANTITIES]
    conditions = {**run.conditions(), "outcome": trained.outcome}
    measured, failures = None, []
    try:
        measured = _measured(run, data, trained, name, device) if trained.usable else None
        why = "" if trained.usable else f"not measured: training {trained.outcome} ({trained.note})"
    except GeomfeatError as error:
        why = str(error)
    if why:
        failures = _failures(run, why)
    rows += transfer_rows(run, data, trained, device)
    first = table_of([*rows, *failures], run=name, seed=run.seed, conditions=conditions, version=__version__)
    if measured is not None:
        first = pd.concat([first, measured], ignore_index=True)
    return first.astype({c: kind for c, kind in COLUMN_TYPES.items() if c in first.columns})


def _training_row(quantity: str, trained: TrainedRun, n: int, absent: Mapping[str, str]) -> Row:
    value = trained.numbers.get(quantity)
    facts = {"at": "trained", "measure": "training", "n": n}
    if value is None:
        return row(quantity, Estimate.failed(trained.note or absent.get(quantity, "unknown")), **facts)
    fine = trained.usable or quantity in ("steps", "converged", "sharpness_initial", "stability")
    return row(quantity, Estimate(float(value), ok=fine, note=trained.note), **facts)


def _failures(run: RunConfig, why: str) -> list[Row]:
    """A row for every requested number that cannot be measured."""
    asked = [] if run.measure.measures == "all" else [get(name) for name in run.measure.measures]
    found = [r for m in asked for r in failed_rows(m.quantities, why, at="trained", measure=m.name)]
    if run.measure.location is not False:
        found += failed_rows(LOCATION_QUANTITIES, why, at="init->trained", measure="location")
    return found


def _measured(run: RunConfig, data: Dataset, trained: TrainedRun, name: str, device: Device) -> pd.DataFrame | None:
    asked = run.measure
    if asked.measures == [] and asked.location is False:
        return None
    assert trained.trained is not None
    loss = loss_named(run.train, data) if isinstance(run.train, PlainTrainConfig) else run.train.loss
    readout = "last" if loss == NEXT_TOKEN else None
    location: bool | LocateOptions = False
    if asked.location is not False:
        given = asked.location.model_dump(exclude_none=True) if isinstance(asked.location, LocationConfig) else {}
        readout = given.pop("readout", readout)
        location = LocateOptions(loss=plain_loss(loss), **given)
    seen = data.training().subsample(asked.n)
    steps = trained.numbers.get("steps")
    last = Snapshot(trained.trained, "trained" if steps is None else int(steps))
    tested = asked.snapshots and data.test_labels is not None and loss != NEXT_TOKEN
    study = analyze(
        last, seen.inputs, seen.labels, initial=trained.initial, layers=asked.layers,
        measures=None if asked.measures == "all" else asked.measures or CHEAP, seed=asked.seed, progress=False,
        checkpoints=dict(trained.snapshots) if asked.snapshots else None, location=location,
        extraction=ExtractOptions(readout=readout), device=device,
        options=StudyOptions(
            name=name, conditions=run.conditions() | {"outcome": trained.outcome}, umap=False, optimizer=trained.rates,
            evaluate={"test": (data.test_inputs, data.test_labels)} if tested else None,
        ),
    )  # fmt: skip
    table = study.table
    return table if asked.measures else table.loc[lambda t: t["measure"] == "location"]
