"""Every kind of page stays small, with all that it shows inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.every_kind import WRITERS

LIMIT = 2.4e6  # bytes; the goal is 2.5e6


@pytest.mark.parametrize("kind", WRITERS)
def test_the_page_is_small(kind: str, tmp_path: Path) -> None:
    assert WRITERS[kind](tmp_path / "page.html").stat().st_size < LIMIT
