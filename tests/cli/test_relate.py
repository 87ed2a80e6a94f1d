"""`geomfeat relate` and `portrait`: pages and figures of a sweep's folder, unfinished sweeps, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geomfeat.cli import app
from geomfeat.comparison.sweeps._sweep import sweep
from tests.comparison.sweeps_on_disk import tiny

pytestmark = pytest.mark.usefixtures("unprinted")
RUN = CliRunner()
CONFIG = tiny(sigma=[0.5, 1.0], eta=[0.1, 0.5], measure={"location": {"n_probes": 8, "n_bootstrap": 4}, "n": 20})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "grid"
    sweep(CONFIG, folder, progress=False)
    return folder


def test_relate_answers_and_writes_page_and_figures(made: Path, tmp_path: Path) -> None:
    result = RUN.invoke(app, ["relate", str(made), "--figures", str(tmp_path / "figures")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "Richness R changes by" in result.output
    assert "theory predicts −3" in result.output
    assert f"page: {made / 'relate.html'}" in result.output
    text = (made / "relate.html").read_text(encoding="utf-8")
    assert "8 trainings of 4 configurations" in text
    assert "all are in results.parquet" in text
    names = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert names == ["excess_1.svg", "movement_1.svg", "residual_1.svg", "richness_1.svg"]


def test_portrait_takes_its_axes_and_writes_page_and_figures(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "deep" / "p.html"
    result = RUN.invoke(
        app, ["portrait", str(made), "--x", "eta", "--out", str(page), "--figures", str(tmp_path / "f")],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "8 trainings of 4 configurations" in result.output
    assert "Portrait over learning rate η and init scale σ" in page.read_text(encoding="utf-8")
    assert (tmp_path / "f" / "richness_1.svg").is_file()


def test_an_unfinished_sweep_is_counted_and_said(made: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(made, part)
    for run in sorted((part / "runs").iterdir())[:2]:
        shutil.rmtree(run)
    result = RUN.invoke(app, ["relate", str(part)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "2 of 8 runs are missing: the sweep is unfinished" in result.output
    assert "of 8 trainings diverged" not in result.output  # the two that are missing did not fail
    assert "2 of 8 runs are missing" in (part / "relate.html").read_text(encoding="utf-8")
    shutil.rmtree(part / "runs")
    for word in ("relate", "portrait"):
        result = RUN.invoke(app, [word, str(part)])
        assert result.exit_code == 2
        assert "none of the 8 runs" in result.output


def test_one_value_of_every_condition_is_refused(tmp_path: Path) -> None:
    sweep(tiny(seeds=1), tmp_path / "one", progress=False)
    result = RUN.invoke(app, ["relate", str(tmp_path / "one")])
    assert result.exit_code == 2
    assert "no slope can be fitted: vary sigma or eta" in " ".join(result.output.split())
    result = RUN.invoke(app, ["portrait", str(tmp_path / "one")])
    assert result.exit_code == 2
    assert "needs two conditions that vary" in result.output


@pytest.mark.parametrize("word", ["relate", "portrait"])
def test_what_is_no_sweep_and_a_folder_as_the_page_are_refused(word: str, made: Path, tmp_path: Path) -> None:
    result = RUN.invoke(app, [word, str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no sweep" in result.output
    result = RUN.invoke(app, [word, str(made), "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "is a folder: name the file" in result.output
    result = RUN.invoke(app, [word, str(made), *(["--measures", "capacit"] if word == "relate" else ["--y", "width"])])
    assert result.exit_code == 2
    assert "the table has no" in result.output


def test_what_is_missing_is_reported_before_what_is_refused_for_want_of_it(tmp_path: Path) -> None:
    """Of two values of sigma one is not there: the sweep is unfinished, it is not that nothing was varied."""
    sweep(tiny(sigma=[0.5, 1.0], seeds=1), tmp_path, progress=False)
    shutil.rmtree(next((tmp_path / "runs").iterdir()))
    for word in ("relate", "portrait"):
        result = RUN.invoke(app, [word, str(tmp_path)])
        assert result.exit_code == 2
        assert result.output.index("1 of 2 runs are missing") < result.output.index("geomfeat: ")


def test_a_sweep_whose_folders_are_all_damaged_says_so(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "cut")
    for table in (tmp_path / "cut" / "runs").glob("*/table.arrow"):
        table.write_bytes(table.read_bytes()[:100])
    result = RUN.invoke(app, ["relate", str(tmp_path / "cut")])
    assert result.exit_code == 2
    assert "8 folders are damaged or of another version" in result.output
