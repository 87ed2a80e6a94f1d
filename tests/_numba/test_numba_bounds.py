"""The job that runs compiled loops with index checks (`make bounds`): the switch works, and the job finds its tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import numpy as np
from geomfeat._numba.rank_statistics import rank_row
rank_row(np.array([0, 9]), np.array([True, True]), np.ones(2), np.empty(2))
"""


def test_the_switch_turns_an_index_outside_of_an_array_into_an_error(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "IndexError: index is out of bounds" in done.stderr


def test_the_job_names_files_that_are_there() -> None:
    named = re.search(r"^CHECKED := (.*)$", (ROOT / "Makefile").read_text().replace("\\\n", " "), re.MULTILINE)
    assert named is not None
    files = named.group(1).split()
    assert len(files) > 3
    assert [file for file in files if not (ROOT / file).exists()] == []
