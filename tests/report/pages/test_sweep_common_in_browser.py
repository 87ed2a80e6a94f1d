"""The pages of a sweep in headless Chromium, clicked through: choose a number, swap axes, filter, point at a cell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geomfeat.comparison.relations._relate import relate
from geomfeat.report.pages.portrait import write_portrait_page
from geomfeat.report.pages.relate import write_relate_page
from tests.report import swept_pages
from tests.report.browser import Browser, needs_chromium, visit

pytestmark = needs_chromium

PROBE = """
new Promise(function (answer) {
  var said = {}, map = document.getElementById("explore-map"), plane = document.getElementById("explore-plane");
  function choose(id, value) {
    var select = document.getElementById("choose-" + id);
    select.value = value;
    select.dispatchEvent(new Event("change"));
  }
  said.lines = plane.data.filter(function (t) { return t.mode === "lines+markers"; }).length;
  said.richness = map.data[0].z;
  choose("number", "excess E");
  said.excess = map.data[0].z;
  said.bar = map.data[0].colorbar.title.text;
  choose("number", "richness R");
  if (document.getElementById("choose-filter-architecture")) { choose("filter-architecture", "cnn"); }
  choose("filter-seed", "1");
  said.filtered = map.data[0].z;
  said.words = document.getElementById("explore-words").textContent;
  choose("filter-seed", "");
  choose("x", "eta");
  said.axes = ["x", "y"].map(function (id) { return document.getElementById("choose-" + id).value; });
  said.turned = map.data[0].z;
  choose("x", "sigma");
  // Point at the last cell, where all trainings diverged, as a mouse does.
  var box = map.querySelector(".nsewdrag").getBoundingClientRect();
  var over = { bubbles: true, clientX: box.right - box.width / 8, clientY: box.top + box.height / 6 };
  map.querySelector(".nsewdrag").dispatchEvent(new MouseEvent("mouseover", over));
  map.querySelector(".nsewdrag").dispatchEvent(new MouseEvent("mousemove", over));
  setTimeout(function () {
    var shown = Array.from(document.querySelectorAll("#explore-map .hovertext"));
    said.hover = shown.map(function (t) { return t.textContent; }).join(" ");
    said.plane = document.getElementById("plane-words").textContent;
    var ends = plane.data[plane.data.length - 1];
    said.faint = ends.marker.opacity.filter(function (o) { return o < 0.5; }).length;
    answer(said);
  }, 500);
})"""


def test_relate_is_clicked_through(browser: Browser, tmp_path: Path) -> None:
    table = swept_pages.grid()
    seen = visit(browser, write_relate_page(relate(table), table, tmp_path / "relate.html"), script=PROBE)
    said = seen.said
    assert seen.console == []
    assert seen.requests == []
    assert 'data-plots="drawn"' in seen.dom
    assert said["richness"][0][0] == pytest.approx(1.8, abs=0.1)  # -3 log10(.25), of the MLPs
    assert said["richness"][2][3] is None
    assert said["excess"][0][0] == pytest.approx(-0.3 * said["richness"][0][0] - 0.1, abs=1e-3)
    assert said["bar"] == "excess E"
    assert said["filtered"][0][0] == pytest.approx(2.8, abs=0.1)  # of the CNNs, planted one decade richer
    assert said["words"].startswith("12 trainings in 12 cells; one training in every cell; 1 training is left out")
    assert said["axes"] == ["eta", "sigma"]
    assert said["turned"][0][0] == pytest.approx(said["filtered"][0][0], abs=0.1)
    assert said["turned"][3][2] is None
    assert "sigma 2, eta 1" in said["hover"]
    assert "richness R: none (mean of 0)" in said["hover"]
    assert re.search("did not end: diverged ?at step 7", said["hover"])  # a line may break there
    assert "Faint: not in the cell pointed at." in said["plane"]
    assert said["faint"] == 33  # all but the three of this cell


def test_portrait_is_clicked_through_and_draws_every_course(browser: Browser, tmp_path: Path) -> None:
    seen = visit(browser, write_portrait_page(swept_pages.courses(), tmp_path / "portrait.html"), script=PROBE)
    said = seen.said
    assert seen.console == []
    assert seen.requests == []
    assert said["lines"] == 33
    assert re.search("did not end: diverged ?at step 7", said["hover"])  # a line may break there
    assert said["faint"] == 33
