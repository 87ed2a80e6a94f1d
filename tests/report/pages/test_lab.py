"""The page of a lab experiment holds its numbers, survives hostile names, marks what misses, and is drawn."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from geomfeat.charts import Curve, Heat, Plot
from geomfeat.charts.curve_style import curve_colours
from geomfeat.errors import BadInput
from geomfeat.lab import Experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.report.pages.lab import save_lab_figures, write_lab_page
from geomfeat.report.plotly.charts import lab_figure
from tests.report.html_reader import Read, assert_contents_lead_to_all_sections, assert_whole, read

HOSTILE = '</script><b>"%{x}" $y$ & co'
ASKED = Experiment("hostile", HOSTILE, "Does it hold?", "It does: a$b.", "nobody", lambda *_: FOUND)
PLOTS = (
    Plot(HOSTILE, "x", "y", [
        Curve("slow", [1, 10, 100], [0.125, math.nan, 3.375], [0.1, 0.1, 0.2]),
        Curve("slow, theory", [1, 100], [0.1, 3.0], kind="theory"),
        Curve("law", [1, 100], [1.0, 1.0], kind="theory"),
    ], log_x=True, log_y=True, caption="A caption."),
    Heat("classes", "a", "b", [0.0, 1.0], [0.0, 1.0, 2.0], [[0, 1], [1, 0], [1, 1]], "kind",
         [Curve("edge", [0, 1], [0, 2], kind="theory")], categories=("cold", "hot")),
    Heat("values", "a", "b", [0.0, 1.0], [0.0, 1.0], [[0.5, math.nan], [1.5, 2.5]], "height"),
)  # fmt: skip
FOUND = Findings(
    "It holds.", PLOTS, [Check("slope", 1.02, 1.0, 0.05, "decades"), Check("gap", 7.0, 1.0, 0.5)],
    pd.DataFrame({"name": ["first", HOSTILE], "value": [0.4375, 2.0], "n": [3, 4]}), {"seed": 0}, ["A note."],
)  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lab_page(
        ASKED, FOUND, tmp_path_factory.mktemp("lab") / "deep" / "lab.html", table_file="results.parquet"
    )


@pytest.fixture(scope="module")
def page(path: Path) -> Read:
    return read(path)


def test_the_page_is_whole_and_its_links_lead_somewhere(page: Read) -> None:
    assert_whole(page)
    assert_contents_lead_to_all_sections(page)


def test_question_answer_theory_and_notes_are_reported(page: Read) -> None:
    for words in ("Does it hold?", "It holds.", "It does: a$b.", "nobody", "A note.", "A caption.", HOSTILE):
        assert words in page.text


def test_every_number_is_in_a_table(page: Read) -> None:
    shown = [value for value, _ in page.numbers]
    for value in (0.125, 3.375, 0.4375, 0.5, 1.5, 2.5, 1.02, 7.0):
        assert value in shown, value


def test_a_missed_check_is_marked_and_counted(path: Path, page: Read) -> None:
    assert "1 of 2 numbers lie outside of their tolerance." in page.text
    text = path.read_text(encoding="utf-8")
    assert text.count('class="failed"') == 1


def test_plotly_takes_every_panel() -> None:
    for plot in PLOTS:
        (panel,) = lab_figure(plot).panels
        layout = {k: v for k, v in panel.layout.items() if k != "dragmode"}
        assert len(go.Figure(panel.data, layout).data) == len(panel.data)


def test_theory_has_the_colour_of_what_it_is_the_theory_of() -> None:
    first, second, third = curve_colours(list(PLOTS[0].curves))  # type: ignore[union-attr]
    assert first == second != third


def test_bars_on_a_log_axis_reach_down_by_the_factor_they_reach_up_by() -> None:
    curve = Curve("wide", [1.0, 2.0], [1.0, 4.0], [3.0, 0.0])
    for log_y, wanted in ((True, [0.75, 0.0]), (False, [3.0, 0.0])):
        (trace,) = lab_figure(Plot("t", "x", "y", [curve], log_y=log_y)).panels[0].data
        assert trace["error_y"]["array"] == [3.0, 0.0]
        assert trace["error_y"]["arrayminus"] == pytest.approx(wanted)


def test_marks_are_left_out_where_they_would_run_together() -> None:
    long, short = (Curve("a", range(n), range(n)) for n in (400, 40))
    modes = [lab_figure(Plot("t", "x", "y", [c])).panels[0].data[0]["mode"] for c in (long, short)]
    assert modes == ["lines", "lines+markers"]


def test_figures_are_saved_as_svg_with_their_words(tmp_path: Path) -> None:
    paths = save_lab_figures(FOUND, tmp_path / "figures")
    assert [p.name for p in paths] == ["figure_1.svg", "figure_2.svg", "figure_3.svg"]
    assert "slow, theory" in paths[0].read_text(encoding="utf-8")
    assert "hot" in paths[1].read_text(encoding="utf-8")


def test_the_same_findings_give_the_same_page(path: Path, tmp_path: Path) -> None:
    again = write_lab_page(ASKED, FOUND, tmp_path / "again.html", table_file="results.parquet")
    assert again.read_bytes() == path.read_bytes()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        write_lab_page(ASKED, FOUND, tmp_path)
