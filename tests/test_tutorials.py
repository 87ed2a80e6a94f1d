"""Every tutorial runs from top to bottom, in a folder of its own, and draws its pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.warm_process import run_script

TUTORIALS = sorted((Path(__file__).resolve().parents[1] / "tutorials").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path: Path, tmp_path: Path) -> None:
    found = run_script(path, tmp_path)
    assert found.returncode == 0, found.stderr
    pictures = list((tmp_path / "pictures").iterdir())
    assert pictures
    assert all(picture.stat().st_size > 5_000 for picture in pictures)
