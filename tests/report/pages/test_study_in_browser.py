"""The page in headless Chromium: every plot drawn, no console message, no request, no sideways scrolling on a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium to test the page in it")

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--enable-logging=stderr", "--v=0", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=60000",
)  # fmt: skip


@dataclass(frozen=True)
class Visit:
    """What came of opening a page: its elements afterwards, console messages, and requests that it made."""

    dom: str
    console: list[str]
    requests: list[str]


def visit(path: Path, folder: Path, width: int = 1400) -> Visit:
    """Open a file in a fresh Chromium."""
    log = folder / "net.json"
    command = [str(CHROMIUM), *QUIET, f"--window-size={width},900", f"--user-data-dir={folder / 'profile'}",
               f"--log-net-log={log}", "--dump-dom", path.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    console = [line.split("] ", 1)[1] for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Visit(done.stdout, console, _requests(log.read_text(encoding="utf-8")))


def _requests(text: str) -> list[str]:
    """Network requests of the page; the browser's own, which come from no page, do not count."""
    try:
        events = json.loads(text)["events"]
    except ValueError:  # the browser was stopped in the middle of its last line
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    starts = [e["params"] for e in events if "initiator" in e.get("params", {}) and "url" in e["params"]]
    return [p["url"] for p in starts if p["initiator"] != "not an origin" and not p["url"].startswith("file:")]


def test_the_checks_can_fail(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<html><body><img src="http://192.0.2.1/x.png"><script>nowhere()</script></body></html>')
    seen = visit(bad, tmp_path)
    assert any("nowhere is not defined" in message for message in seen.console)
    assert seen.requests == ["http://192.0.2.1/x.png"]


def test_every_plot_is_drawn_without_a_message_or_a_request(page, tmp_path):
    seen = visit(page("all"), tmp_path)
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
<script>
setTimeout(function () {
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
  parent.postMessage(JSON.stringify(said), "*");
}, 40000);
</script></body>"""
FRAME = """<html><body><p id="said"></p><iframe src="{}" width="390" height="800" style="border:0"></iframe><script>
addEventListener("message", function (e) {{ document.getElementById("said").textContent = e.data; }});
</script></body></html>"""


def test_a_phone_scrolls_tables_not_the_page_and_models_can_be_hidden(page, tmp_path):
    text = page("trouble").read_text(encoding="utf-8")
    head, body = text.rsplit("</body>", 1)
    (tmp_path / "probed.html").write_text(head.replace("<details>", "<details open>") + PROBE + body, encoding="utf-8")
    frame = tmp_path / "frame.html"  # a window of Chromium is at least 500 wide, a frame may be a phone's width
    frame.write_text(FRAME.format((tmp_path / "probed.html").as_uri()))
    said = re.search(r'<p id="said">(.*?)</p>', visit(frame, tmp_path).dom)
    assert said
    found = json.loads(html.unescape(said[1]))
    assert found["wide"] == []
    assert found["page"] <= found["window"] <= 390
    assert found["hidden"] == page("trouble").read_text(encoding="utf-8").count('<div class="panel" data-model="0"')
    assert 1 in found["left"]
    assert 0 not in found["left"]
