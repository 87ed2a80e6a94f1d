"""Every figure of every kind of page is on paper, whole, though most are not drawn yet when it is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.every_kind import WRITERS, page_of
from tests.report.pages.test_study_in_browser import CHROMIUM, QUIET
from tests.report.printing import printed

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium to test the page in it")

FLAGS = (*QUIET, "--no-pdf-header-footer", "--window-size=1280,900")
FEWEST = {"forecast": 2}  # panels: the plane and the layers; other pages have more


@pytest.mark.parametrize("kind", WRITERS)
def test_every_figure_is_printed_whole(kind: str, tmp_path: Path) -> None:
    seen = printed(str(CHROMIUM), page_of(kind), tmp_path, FLAGS)
    assert seen.panels >= FEWEST.get(kind, 3)
    assert seen.seen == list(range(1, seen.panels + 1))
    assert seen.cut == []


def test_the_check_can_fail(tmp_path: Path) -> None:
    path, text = tmp_path / "page.html", page_of("lab").read_text(encoding="utf-8")
    assert text.count('"beforeprint", toPaper') == 1
    path.write_text(text.replace('"beforeprint", toPaper', '"never", toPaper'), encoding="utf-8")
    seen = printed(str(CHROMIUM), path, tmp_path, FLAGS)
    assert seen.seen == [1]
