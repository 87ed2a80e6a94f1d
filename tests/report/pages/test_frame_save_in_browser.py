"""The buttons that save a figure, and a browser that cannot unpack the script, in headless Chromium."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from geomfeat.study import Study
from tests.report.browser import Browser, needs_chromium, visit

pytestmark = needs_chromium
SVG = "{http://www.w3.org/2000/svg}"
# Presses both buttons of the first figure with panels, and answers what would be saved.
PRESS = """
new Promise(function (answer) {
  var saved = {}, last;
  URL.createObjectURL = function (blob) { last = blob; return "#"; };
  HTMLAnchorElement.prototype.click = function () {
    var name = this.download;
    last.text().then(function (text) {
      saved[name] = text;
      if (Object.keys(saved).length === 2) { answer(saved); }
    });
  };
  var figure = document.querySelector("figure .panel").closest("figure");
  figure.querySelectorAll("[data-save]").forEach(function (button) { button.dispatchEvent(new Event("click")); });
})"""


def test_a_figure_is_saved_as_pictures_and_numbers(
    browser: Browser, page: Callable[[str], Path], gallery: list[Study]
) -> None:
    saved = visit(browser, page("gallery"), script=PRESS).said
    assert {Path(name).suffix for name in saved} == {".svg", ".csv"}
    (drawing,) = (text for name, text in saved.items() if name.endswith(".svg"))
    root = ElementTree.fromstring(drawing)
    panels = [child for child in root.findall(f"{SVG}svg") if child.findall(f".//{SVG}path")]
    assert panels
    assert float(root.attrib["height"]) > 100
    (numbers,) = (text for name, text in saved.items() if name.endswith(".csv"))
    cells = {cell for row in csv.reader(numbers.splitlines()) for cell in row}
    # In full, not as the page rounds them.
    assert {str(study.location.richness) for study in gallery if study.location} <= cells


def test_a_browser_that_cannot_unpack_shows_a_message_and_the_numbers(
    browser: Browser, page: Callable[[str], Path], tmp_path: Path
) -> None:
    text = page("gallery").read_text(encoding="utf-8")
    old = text.replace("<head>", "<head><script>window.DecompressionStream = undefined;</script>", 1)
    (tmp_path / "old.html").write_text(old, encoding="utf-8")
    seen = visit(browser, tmp_path / "old.html")
    assert seen.console == []
    assert 'data-plots="none"' in seen.dom
    message = re.search(r'<p class="box" id="no-plots"[^>]*>', seen.dom)
    assert message
    assert "hidden" not in message[0]
    body = re.sub(r"<script.*?</script>", "", seen.dom, flags=re.DOTALL)
    figures = re.findall(r"<figure.*?</figure>", body, re.DOTALL)
    tables = [figure for figure in figures if "<details" in figure]
    assert len(tables) > 3
    assert all(re.search(r"<details[^>]* open", figure) for figure in tables)
    shown = re.sub(r"<noscript[^>]*>.*?</noscript>", "", body, flags=re.DOTALL)
    assert re.search(r'<img [^>]*src="data:image/', shown)
