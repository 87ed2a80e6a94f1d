"""The device of a sweep's runs: it names no run, reaches all that computes, and gives dask a process for each GPU."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed import Client

from geomfeat.activations import extract
from geomfeat.comparison.sweeps import sweep, task
from geomfeat.comparison.sweeps.config import parse_config
from geomfeat.comparison.sweeps.executors import base, dask
from geomfeat.comparison.sweeps.executors.registry import device_of_runs, engine_named
from geomfeat.comparison.sweeps.grid import runs_of
from geomfeat.errors import BadInput
from geomfeat.regimes.training import scaled_training
from tests.comparison.sweeps_on_disk import numbers, tiny


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, visible: str | None = None) -> None:
    """As on a machine with so many GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv(base.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(base.VISIBLE, visible)


def test_a_device_changes_no_address() -> None:
    version = task.code_version()
    plain, on_gpu = (runs_of(parse_config(tiny(device=device))) for device in (None, "cuda"))
    assert [run.address(version) for run in plain] == [run.address(version) for run in on_gpu]


def test_what_was_made_on_one_device_is_kept_on_another(tmp_path: Path, device: str) -> None:
    first = sweep(tiny(seeds=1), tmp_path, progress=False)
    (manifest,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/*/run.json"))
    assert manifest["device"] == "cpu"
    again = sweep(tiny(seeds=1, device=device), tmp_path, progress=False)
    assert numbers(again.table).equals(numbers(first.table))


def test_a_sweep_is_computed_where_it_is_asked_to_be(tmp_path: Path, device: str) -> None:
    config = tiny(seeds=1, train={"n": 20}, measure={"n": 20, "location": {"n_bootstrap": 2}})
    table = sweep(config, tmp_path, device=device, progress=False).table
    assert set(table.loc[table["measure"] == "stable_rank", "device"]) == {device}
    other = sweep(config, tmp_path / "cpu", progress=False).table
    same = ["train_loss", "richness"]
    for name in same:
        values = [t.loc[(t["quantity"] == name) & (t["layer"].fillna("") == ""), "value"] for t in (table, other)]
        assert values[0].tolist() == pytest.approx(values[1].tolist(), rel=1e-2), name


def test_every_part_of_a_run_is_given_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def noting(name: str, function: Any) -> Any:
        def noted(*args: Any, **options: Any) -> Any:
            seen[name] = options["device"]
            return function(*args, **options)

        return noted

    monkeypatch.setattr(
        "geomfeat.comparison.sweeps.train.train_at_gamma", noting("train", scaled_training.train_at_gamma)
    )
    monkeypatch.setattr(task, "analyze", noting("analyze", task.analyze))
    monkeypatch.setattr("geomfeat.comparison.sweeps.transfer.extract", noting("probe", extract))
    probe = {"data": "digits", "n": 40}
    sweep(tiny(seeds=1, measure={"probe": probe}), tmp_path, device="auto", progress=False)
    there = "cuda" if torch.cuda.is_available() else "cpu"
    assert {name: str(value) for name, value in seen.items()} == dict.fromkeys(("train", "analyze", "probe"), there)


def test_a_device_that_is_not_here_is_refused_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 0)
    for engine in ("serial", "dask"):
        with pytest.raises(BadInput, match="device='cuda', but torch sees no CUDA device"):
            sweep(tiny(device="cuda"), tmp_path / "out", engine=engine, progress=False)
    with pytest.raises(BadInput, match=r"device: .*pattern"):
        sweep(tiny(device="gpu"), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_auto_is_decided_here_or_by_workers_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    assert [device_of_runs(engine, "auto") for engine in ("serial", "dask", "slurm", "tcp://host:8786")] == [
        "cpu", "cpu", "auto", "auto",
    ]  # fmt: skip
    assert device_of_runs("slurm", "cuda") == "cuda"
    gpus(monkeypatch, 2)
    assert device_of_runs("serial", "auto") == "cuda"
    with pytest.raises(BadInput, match="device='gpu' is not a device"):
        device_of_runs("slurm", "gpu")


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ["0", "1"]), ("3,5", ["3", "5"]), ("GPU-a, GPU-b", ["GPU-a", "GPU-b"])]
)
def test_gpus_are_named_as_this_process_sees_them(
    visible: str | None, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 2, visible)
    assert base.gpus() == names


def test_dask_has_a_process_for_each_gpu_that_sees_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2, "4,7")
    found: dict[str, str] = {}

    def through(address: str, *_: Any) -> Any:
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=90)
            visible: Any = client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
            found.update(visible)
        return iter(())

    monkeypatch.setattr(dask, "through", through)
    engine = engine_named("dask", 5, parse_config({}).slurm, "cuda")
    assert list(engine([], tmp_path, "")) == []
    assert sorted(found.values()) == ["4", "7"]
