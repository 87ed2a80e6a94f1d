"""`geomfeat lab`: lists, runs, writes page, table and figures, and tells a wrong name."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from geomfeat.cli import app
from geomfeat.lab import registry as experiments_module
from geomfeat.lab.result import Check, Findings

pytestmark = pytest.mark.usefixtures("unprinted")
RUN = CliRunner()


def test_the_list_names_every_experiment_with_its_question() -> None:
    result = RUN.invoke(app, ["lab", "--list"])
    assert result.exit_code == 0
    listed = {line.split()[0]: line for line in result.output.splitlines()}
    assert listed["linear-networks"].endswith("when its layers start balanced by lambda?")
    assert len(listed) >= 11


def test_an_experiment_writes_page_table_and_figures(tmp_path: Path) -> None:
    result = RUN.invoke(app, ["lab", "mixed-dynamics", "--small", "--quiet", "--out", str(tmp_path / "lab")])
    assert result.exit_code == 0, result.output
    assert "ok    mixed flow, largest relative error" in result.output
    assert str(tmp_path / "lab" / "lab.html") in result.output
    assert len(pd.read_parquet(tmp_path / "lab" / "results.parquet")) == 24
    assert sorted(p.name for p in (tmp_path / "lab").iterdir()) == [
        "figure_1.svg", "figure_2.svg", "figure_3.svg", "lab.html", "results.parquet"]  # fmt: skip


def test_a_missed_check_is_reported_and_gives_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missed = Findings("No.", [], [Check("slope", 2.0, 1.0, 0.1)], pd.DataFrame({"x": [1.0]}))
    asked = experiments_module.get_experiment("phase-diagram")
    changed = experiments_module.Experiment(
        asked.name, asked.title, asked.question, asked.theory, asked.source, lambda *_: missed
    )
    monkeypatch.setitem(experiments_module._REGISTERED, "phase-diagram", changed)
    result = RUN.invoke(app, ["lab", "phase-diagram", "--quiet", "--out", str(tmp_path / "lab")])
    assert result.exit_code == 1
    assert "MISS  slope" in result.output
    assert (tmp_path / "lab" / "lab.html").is_file()


def test_a_device_is_said_aloud_and_closed_forms_stay_on_the_cpu(tmp_path: Path) -> None:
    said = {}
    for name in ("mixed-dynamics", "phase-diagram"):
        words = ["lab", name, "--small", "--quiet", "--device", "cpu", "--out", str(tmp_path / name)]
        result = RUN.invoke(app, words)
        assert result.exit_code == 0, result.output
        said[name] = result.output.partition("\n")[0]
    assert said["phase-diagram"] == "device: cpu"
    assert said["mixed-dynamics"].startswith("device: cpu (mixed-dynamics trains no network on a device")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["lab", "lazy-limit", "--device", "tpu"], "'tpu' is not a device"),
        (["lab"], "geomfeat lab --list"),
        (["lab", "mixed-dynamic"], "near: mixed-dynamics"),
    ],
)
def test_a_wrong_name_is_reported(words: list[str], hint: str) -> None:
    result = RUN.invoke(app, words)
    assert result.exit_code == 2
    assert hint in result.output


def test_a_file_in_the_way_is_reported_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = RUN.invoke(app, ["lab", "mixed-dynamics", "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "is a file" in result.output
