"""Every tutorial runs from top to bottom, in a folder of its own, and draws its pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).resolve().parents[1] / "tutorials").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-W", "error", path], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert found.returncode == 0, found.stderr
    pictures = list((tmp_path / "pictures").iterdir())
    assert pictures
    assert all(picture.stat().st_size > 5_000 for picture in pictures)
