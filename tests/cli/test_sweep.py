"""`geomfeat sweep`: the folder, the words, the exit codes, what a dry run tells, and the config that comes with it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from geomfeat.comparison.sweeps import _sweep as sweep, task
from geomfeat.comparison.sweeps.config import read_config
from geomfeat.comparison.sweeps.grid import runs_of
from tests.cli.conftest import Run
from tests.comparison.sweeps_on_disk import tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tiny(eta=[0.05, 1e4])))
    return path


def test_a_sweep_ends_in_one_table_and_a_second_call_says_the_same(run: Run, config: Path, tmp_path: Path) -> None:
    first = run("sweep", config, "--out", tmp_path / "out", "--quiet")
    assert first.exit_code == 0
    assert "4 trainings: " in first.stdout
    assert "2 diverged" in first.stdout
    assert len(pd.read_parquet(tmp_path / "out" / "results.parquet")["run"].unique()) == 4
    assert run("sweep", config, "--out", tmp_path / "out", "--quiet").stdout == first.stdout


def test_a_run_that_could_not_be_made_is_reported_with_exit_code_1(
    run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(task, "train_run", breaking)
    done = run("sweep", config, "--out", tmp_path / "out", "--quiet")
    assert done.exit_code == 1
    assert "4 missing" in done.stdout
    assert "failed: ZeroDivisionError: a bug" in done.stderr


def test_a_dry_run_tells_number_and_time_and_writes_nothing(run: Run, config: Path, tmp_path: Path) -> None:
    output = run("sweep", config, "--out", tmp_path / "out", "--dry-run", "--engine", "dask", "--workers", 3).stdout
    assert output.startswith("4 trainings, 0 finished. At most ")
    assert "minutes for 4 on 3 workers" in output
    assert not (tmp_path / "out").exists()


def test_slurm_without_sbatch_is_refused_before_anything_is_written(
    run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("sweep", config, "--out", tmp_path / "out", "--quiet", "--engine", "slurm")
    assert done.exit_code == 2
    assert "'slurm' needs sbatch, which is not on this machine" in done.stderr
    assert not (tmp_path / "out").exists()


LETTERS = "abcdefghijklmnopqr"
LAUGHS = "a: &a [1, 1]\n" + "".join(f"{k}: &{k} [*{j}, *{j}]\n" for j, k in pairwise(LETTERS))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[" * 20_000, "nested too deeply"),
        ("sigma: &a [*a]", "holds itself"),
        (LAUGHS, "more than 100000 values"),
        ("eta: 2026-13-45", "is not valid YAML"),
        ("eta: !!int ''", "is not valid YAML"),
        ("eta: !!timestamp x", "is not valid YAML"),
        ("? [a]\n: 1", "is not valid YAML"),
        ("eta: !!python/object:os.system x", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
    ],
)
def test_a_config_that_is_no_sweep_is_refused(run: Run, config: Path, tmp_path: Path, text: str, message: str) -> None:
    config.write_text(text)
    done = run("sweep", config, "--out", tmp_path / "out", "--dry-run")
    assert done.exit_code == 2
    [line] = done.stderr.strip().splitlines()
    assert "sweep.yaml" in line
    assert message in line


def test_a_dry_run_tells_of_runs_of_another_version(
    run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("sweep", config, "--out", tmp_path / "out", "--quiet")
    for where in (task, sweep):
        monkeypatch.setattr(where, "code_version", lambda: "9.9+other")
    result = run("sweep", config, "--out", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    assert "4 trainings, 0 finished" in result.stdout
    assert "holds 4 of these 4 runs made by another version (4 by geomfeat 0." in result.stdout
    assert "--recompute" in result.stdout


def test_a_dry_run_on_slurm_shows_the_job_script(run: Run, config: Path, tmp_path: Path) -> None:
    with config.open("a") as file:
        file.write("slurm: {jobs: 7, partition: short}\n")
    output = run("sweep", config, "--out", tmp_path / "out", "--dry-run", "--engine", "slurm").stdout
    assert "on 7 workers" in output
    assert "#SBATCH -p short" in output


def test_the_schema_is_json_and_knows_every_key(run: Run) -> None:
    schema = json.loads(run("sweep", "--schema").stdout)
    kinds = [schema["$defs"][kind["$ref"].rpartition("/")[2]] for kind in schema["anyOf"]]
    assert all(kind["additionalProperties"] is False for kind in kinds)
    for kind in kinds:
        assert {"sigma", "eta", "train", "measure", "design"} <= set(kind["properties"])
    assert ["model" in kind["properties"] for kind in kinds] == [False, True, True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "SWEEP.yaml is missing"),
        (("{config}",), "--out is missing"),
        (("none.yaml", "--out", "out"), "no such sweep file: 'none.yaml'"),
        (("{config}", "--out", "out", "--engine", "dusk"), "engine='dusk': near: dask"),
    ],
)
def test_bad_calls_are_one_line_with_exit_code_2(run: Run, config: Path, words: tuple[str, ...], message: str) -> None:
    done = run("sweep", *(word.format(config=config) for word in words))
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_sweep_of_the_tutorials_is_that_of_its_name() -> None:
    runs = runs_of(read_config(ROOT / "tutorials" / "configs" / "scale_by_rate.yaml"))
    assert len(runs) == 108
    assert len({r.sigma for r in runs}) == len({r.eta for r in runs}) == 6


def test_a_smaller_config_on_the_same_folder_is_refused(run: Run, config: Path, tmp_path: Path) -> None:
    assert run("sweep", config, "--out", tmp_path / "out", "--quiet").exit_code == 0
    config.write_text(yaml.safe_dump(tiny(eta=[0.05])))
    refused = run("sweep", config, "--out", tmp_path / "out", "--quiet")
    assert refused.exit_code == 2
    assert "hold a sweep of 4 trainings, 2 of which this config lacks (first: eta=10000.0" in refused.stderr
    assert len(pd.read_parquet(tmp_path / "out" / "results.parquet")["run"].unique()) == 4


def test_the_device_of_the_option_or_of_the_file_is_printed(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "sweep.yaml"
    config.write_text(yaml.safe_dump(tiny(seeds=1, device="cpu")))
    there = "cuda" if torch.cuda.is_available() else "cpu"
    output = run("sweep", config, "--out", tmp_path / "out", "--quiet", "--device", "auto").stdout
    assert output.startswith(f"device: {there}\n1 trainings")
    assert run("sweep", config, "--out", tmp_path / "out", "--quiet").stdout.startswith("device: cpu\n1 trainings")
    refused = run("sweep", config, "--out", tmp_path / "out", "--quiet", "--device", "gpu")
    assert refused.exit_code == 2
    assert "device='gpu' is not a device: use 'cpu', 'cuda', 'cuda:1' or 'auto'" in refused.stderr
