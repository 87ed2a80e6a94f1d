"""The folder of compiled loops (`make check`, `make test`): shared by checkouts, and another one after any change."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.loop_cache import LOOPS, loop_cache, place_of


def test_checkouts_with_the_same_loops_share_what_is_compiled(tmp_path: Path) -> None:
    other = tmp_path / "checkout" / "geomfeat" / "_numba"
    shutil.copytree(LOOPS, other, ignore=shutil.ignore_patterns("__pycache__"))
    folder = loop_cache(tmp_path / "loops")
    assert loop_cache(tmp_path / "loops", other) == folder
    own = [folder / place_of(path / "x.py") for path in (LOOPS, other)]
    assert own[0] != own[1]
    assert own[0].resolve() == own[1].resolve() == (folder / "_numba").resolve()


def test_a_change_of_any_loop_leads_to_another_folder(tmp_path: Path) -> None:
    other = tmp_path / "_numba"
    shutil.copytree(LOOPS, other, ignore=shutil.ignore_patterns("__pycache__"))
    before = loop_cache(tmp_path / "loops", other)
    with (other / "cholesky_update.py").open("a") as file:
        file.write("# another line\n")
    assert loop_cache(tmp_path / "loops", other) != before
