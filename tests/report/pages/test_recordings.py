"""The page of recordings speaks of areas, trials and units, survives hostile names, and is drawn without complaint."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

import geomfeat as gf
from geomfeat.report.content.quantity_labels import title_of
from geomfeat.report.content.study_view import views
from geomfeat.report.pages.recordings import sections
from tests.contract.result_examples import recorded
from tests.report.html_reader import Read, assert_whole, read

MEASURES = ["capacity", "capacity_shuffled", "capacity_noise", "nc1", "participation_ratio", "cka_linear_unbiased"]
HOSTILE = '</script><b>"%{x}" $y$ & co'


@pytest.fixture(scope="module")
def several() -> list[gf.Study]:
    """Two recordings, one of a hostile name, with two areas each."""
    one = gf.analyze_recording(recorded(), measures=MEASURES, name=HOSTILE, progress=False)
    return [one, gf.analyze_recording(recorded().match_trials(4), measures=MEASURES, name="few", progress=False)]


@pytest.fixture(scope="module")
def page(several: list[gf.Study], tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(gf.compare_page(several, tmp_path_factory.mktemp("page") / "recordings.html"))


def test_every_section_is_there_in_order_and_linked(page: Read) -> None:
    names = ["recorded", "areas", "cka", "spectra", "troubles", "settings", "glossary"]
    assert [a["id"] for tag, a in page.elements if tag == "section"] == names
    assert page.links == [f"#{name}" for name in names]
    assert_whole(page)


def test_it_says_what_was_recorded_and_what_errors_cover(page: Read) -> None:
    assert "trials 24 12 conditions 3 3 trials of each 8 4 units 6 6" in page.text
    assert "4 runs" in page.text
    assert "4 trials of each condition were drawn at random (seed 0), of 8" in page.text
    assert "error over 4 runs" in page.text
    assert HOSTILE in page.text


def test_controls_stand_beside_the_numbers_they_are_of(several: list[gf.Study], tmp_path: Path) -> None:
    figures = {f.key: f for section in sections(views(several)) for f in section.figures}
    titles = [p.title for f in figures.values() for p in f.panels]
    assert not [title for title in titles if "shuffled" in title or "noise alone" in title]
    table = next(t for t in figures["classes"].tables if t.title.startswith("Manifold capacity"))
    frame = several[1].table.set_index(["layer", "measure", "quantity"])["value"]
    for word, measure in (("shuffled conditions", "capacity_shuffled"), ("noise alone", "capacity_noise")):
        at = table.columns.index(f"few, {word}")
        for row in table.rows:
            assert row[at].value == frame[row[0].text, measure, "capacity"]
    # In few units controls are at the floor, and drawn in many alone.
    x = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    names = np.array(["a", "b", "c"] * 8)
    area = ["V1"] * 24 + ["IT"] * 16
    wide = gf.analyze_recording(gf.Recording(x, names, area=area), measures=MEASURES[:3], name="wide", progress=False)
    figures = {f.key: f for section in sections(views([wide])) for f in section.figures}
    panel, values = figures["classes"].panels[0], wide.table.set_index(["measure", "layer", "quantity"])["value"]
    for words, measure in (("noise alone", "capacity_noise"), ("at equal units", "capacity_matched")):
        (marks,) = [trace for trace in panel.data if f", {words}:" in trace["hovertemplate"]]
        assert marks["y"] == [values[measure, one, "capacity"] for one in ("IT", "V1")]
    assert figures["classes"].tables[0].columns[-2:] == ("wide, at equal units", "wide, recorded")
    assert_whole(read(wide.to_html(tmp_path / "wide.html")))
    alone = gf.analyze_recording(recorded(), measures=["capacity_noise"], progress=False)
    assert "noise alone" in " ".join(p.title for s in sections(views([alone])) for f in s.figures for p in f.panels)


def test_no_words_of_networks_are_left(page: Read) -> None:
    visible = page.text.partition("What each number means")[0].lower()
    for words in ("input to output", "hidden layer", "trained", "lazy", "not located", "initial network"):
        assert words not in visible, words


def test_plotly_takes_every_panel_and_marks_have_the_numbers_of_the_table(several: list[gf.Study]) -> None:
    seen = views(several)
    for section in sections(seen):
        assert section.figures
        for figure in section.figures:
            for panel in figure.panels:
                go.Figure({"data": panel.data, "layout": panel.layout})
    panel = next(p for f in sections(seen)[0].figures for p in f.panels if p.title == title_of("capacity", "capacity"))
    shown = [
        y for trace in panel.data for y in trace["y"] if trace["meta"]["model"] == 1 and "symbol" in trace["marker"]
    ]
    rows = several[1].table.query("measure == 'capacity' and quantity == 'capacity'")
    assert set(rows["value"]) <= set(shown)


def test_the_legend_of_spectra_names_each_area_in_the_colour_of_its_line(several: list[gf.Study], page: Read) -> None:
    [spectra] = sections(views(several))[2].figures
    for panel in spectra.panels:
        lines = [(html.unescape(trace["name"]), trace["line"]["color"]) for trace in panel.data]
        assert [(key.label, key.colour) for key in panel.keys] == lines
        assert len(lines) == 2
        assert panel.layout["showlegend"] is False
    assert all(key.label in page.text for panel in spectra.panels for key in panel.keys)


def test_recordings_and_networks_have_pages_of_their_own(several: list[gf.Study], tmp_path: Path) -> None:
    network = replace(several[1], name="net", settings={"layers": []})
    with pytest.raises(gf.BadInput, match="is of a recording and 'net' of a network"):
        gf.compare_page([several[1], network], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_recording_over_time_has_a_section_of_its_own(tmp_path: Path) -> None:
    timed = gf.analyze_recording(recorded(timed=True), measures=["stable_rank"], name=HOSTILE, progress=False)
    page = read(timed.to_html(tmp_path / "timed.html"))
    assert "#time" in page.links
    assert_whole(page)
    assert "Squared distance between conditions" in page.text
    figures = next(section for section in sections(views([timed])) if section.key == "time").figures
    panels = [panel for figure in figures for panel in figure.panels]
    # Dimension, CKA, distance, speed, tangling: four runs are too few for the five folds of a probe.
    assert len(panels) == 5
    for panel in panels:
        go.Figure({"data": panel.data, "layout": panel.layout})
