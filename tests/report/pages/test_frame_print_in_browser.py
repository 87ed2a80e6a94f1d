"""Every figure of every kind of page is on paper, whole, though most are not drawn yet when it is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.browser import Browser, needs_chromium
from tests.report.every_kind import WRITERS, page_of
from tests.report.printing import printed

pytestmark = needs_chromium
FEWEST = {"forecast": 2}  # panels: the plane and the layers; other pages have more


@pytest.mark.parametrize("kind", WRITERS)
def test_every_figure_is_printed_whole(browser: Browser, kind: str, tmp_path: Path) -> None:
    seen = printed(browser, page_of(kind), tmp_path)
    assert seen.panels >= FEWEST.get(kind, 3)
    assert seen.seen == list(range(1, seen.panels + 1))
    assert seen.cut == []


def test_the_check_can_fail(browser: Browser, tmp_path: Path) -> None:
    path, text = tmp_path / "page.html", page_of("lab").read_text(encoding="utf-8")
    assert text.count('"beforeprint", toPaper') == 1
    path.write_text(text.replace('"beforeprint", toPaper', '"never", toPaper'), encoding="utf-8")
    seen = printed(browser, path, tmp_path)
    assert seen.seen == [1]
