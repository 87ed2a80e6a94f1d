"""`geomfeat report`: pages of saved studies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

pytestmark = pytest.mark.usefixtures("unprinted")
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the folders of `two` are, once a test has needed them."""
    return tmp_path_factory.mktemp("made") / "two"


@pytest.fixture
def two(files: Path, analyze: Run, made: Path) -> tuple[str, str]:
    """Two finished folders of models with the same name: computed once for all tests, each of which has a copy."""
    if made.exists():
        shutil.copytree(made, ".", dirs_exist_ok=True)
        return "a", "b"
    assert analyze("--name", "net", out="a").exit_code == 0
    assert analyze("--name", "net", "--seed", 1, out="b").exit_code == 0
    for name in ("a", "b"):
        shutil.copytree(name, made / name)
    return "a", "b"


def test_the_page_of_one_folder_is_made_again_the_same(two: tuple[str, str], run: Run) -> None:
    before = Path("a/report.html").read_bytes()
    Path("a/report.html").unlink()
    result = run("report", "a")
    assert result.exit_code == 0, result.stderr
    assert Path("a/report.html").read_bytes() == before
    assert "page: a/report.html" in result.stdout


def test_several_folders_make_one_page_and_models_of_one_name_are_distinguished(two: tuple[str, str], run: Run) -> None:
    result = run("report", "a", "b", "--out", "pages/both.html", "--figures", "figures")
    assert result.exit_code == 0, result.stderr
    html = Path("pages/both.html").read_text(encoding="utf-8")
    assert "net (a)" in html
    assert "net (b)" in html
    assert "net (a)" in result.stdout
    assert {p.suffix for p in Path("figures").iterdir()} == {".svg", ".pdf"}


def test_a_folder_given_twice_counts_once(two: tuple[str, str], run: Run) -> None:
    assert run("report", "a", "a").exit_code == 0
    assert Path("comparison.html").is_file()


def test_a_folder_without_results_is_reported(files: Path, run: Run) -> None:
    result = run("report", "nowhere")
    assert result.exit_code == 2
    [line] = result.stderr.strip().splitlines()
    assert "nowhere holds no finished study" in line
    assert not Path("comparison.html").exists()
