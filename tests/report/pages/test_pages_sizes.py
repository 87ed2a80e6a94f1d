"""Every kind of page stays small, with all that it shows inside."""

from __future__ import annotations

import pytest

from tests.report.every_kind import WRITERS, page_of

LIMIT = 2.4e6  # bytes; the goal is 2.5e6


@pytest.mark.parametrize("kind", WRITERS)
def test_the_page_is_small(kind: str) -> None:
    assert page_of(kind).stat().st_size < LIMIT
