"""The page in headless Chromium: every plot drawn, no console message, no request, no sideways scrolling on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.report.browser import Browser, needs_chromium, visit

pytestmark = needs_chromium


def test_the_checks_can_fail(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<html><body><img src="http://192.0.2.1/x.png"><script>nowhere()</script></body></html>')
    seen = visit(browser, bad, until="true")
    assert any("nowhere is not defined" in message for message in seen.console)
    assert seen.requests == ["http://192.0.2.1/x.png"]


def test_every_plot_is_drawn_without_a_message_or_a_request(browser: Browser, page: Callable[[str], Path]) -> None:
    seen = visit(browser, page("all"))
    assert seen.console == []
    assert seen.requests == []
    assert 'data-plots="drawn"' in seen.dom
    body = re.sub(r"<script.*?</script>", "", seen.dom, flags=re.DOTALL)
    plots = re.split(r'<div class="plot [a-z]+ *', body)[1:]
    assert len(plots) > 50
    for plot in plots:
        assert 'class="main-svg"' in plot
    assert not re.search(r"<img[^>]*onerror", body)


PROBE = """
(function () {
  var page = document.documentElement, wide = [];
  document.querySelectorAll(".plot .main-svg").forEach(function (svg) {
    if (svg.getBoundingClientRect().right > page.clientWidth + 1) { wide.push(svg.closest(".plot").id); }
  });
  var said = { page: page.scrollWidth, window: page.clientWidth, wide: wide };
  document.querySelector("[data-toggle-model='0']").click();
  said.hidden = document.querySelectorAll(".panel[hidden]").length;
  said.left = [];
  document.querySelectorAll(".plot").forEach(function (div) {
    div.data.forEach(function (t) { if (t.meta && t.visible !== false) { said.left.push(t.meta.model); } });
  });
  return said;
})()"""


def test_a_phone_scrolls_tables_not_the_page_and_models_can_be_hidden(
    browser: Browser, page: Callable[[str], Path], tmp_path: Path
) -> None:
    text = page("trouble").read_text(encoding="utf-8")
    (tmp_path / "open.html").write_text(text.replace("<details>", "<details open>"), encoding="utf-8")
    found = visit(browser, tmp_path / "open.html", width=390, script=PROBE).said
    assert found["wide"] == []
    assert found["page"] <= found["window"] <= 390
    assert found["hidden"] == text.count('<div class="panel" data-model="0"')
    assert 1 in found["left"]
    assert 0 not in found["left"]
