"""The page of a forecast: whole, every number in it, advice with its code, hostile names escaped."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from geomfeat.forecasting.result import COLUMNS, Forecast
from geomfeat.location.advice import Advice, AdvisedChange
from geomfeat.report.pages.forecast import render
from geomfeat.report.plotly.forecast import forecast_figures
from tests.report.html_reader import Read, assert_contents_lead_to_all_sections, assert_whole, read

HOSTILE = '</script><b>"%{x}" $y$ & co'
LAYERS = pd.DataFrame(
    [(f"{HOSTILE}0", 0.25, 0.125, 0.375, math.nan, "rich", 0.625),
     ("still", -math.inf, -math.inf, -math.inf, math.nan, "frozen", math.nan)], columns=list(COLUMNS),
)  # fmt: skip
EXPECTED = Forecast(
    richness=0.25, low=0.125, high=0.375, kernel_demand=0.875, regime="rich", layers=LAYERS, loss=HOSTILE,
    initial_loss=1.0, target_loss=0.1, loss_reached=0.1, time=2.0, curvature=10.0, stable_rate=0.1875, rate=0.0625,
    rate_place="flow", steps=32.0, kernel_intervals={"kernel_demand": (0.75, 1.0)}, flags=(f"Mind {HOSTILE}.",),
    details={"n_probes": 12, "by_change": {"richness": [0.0, 0.5], "share_of_straight": 0.5}},
)  # fmt: skip
ADVICE = Advice(
    -1.25, "lazy", 0.25,
    (AdvisedChange("output multiplier", -1.25, multiplier=31.6, low=-1.375, high=-1.125, kernel_demand=-0.625,
                   regime="lazy", reason=f"Since {HOSTILE}.", code=f"model = '{HOSTILE}'"),),
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(EXPECTED.to_html(tmp_path_factory.mktemp("page") / "f.html", advice=ADVICE))


def test_the_page_is_whole_and_its_links_lead_somewhere(page: Read) -> None:
    assert_whole(page)
    assert_contents_lead_to_all_sections(page)


def test_it_says_where_training_goes_what_limits_it_and_what_moves_it(page: Read) -> None:
    for words in (
        "Expected: rich", "+0.25 [+0.12, +0.38] decades", "+0.88 [+0.75, +1.00] decades", "0.188", "flow",
        f"Mind {HOSTILE}.", f"Since {HOSTILE}.", "to R = -1.25 (lazy) from +0.25", f"model = '{HOSTILE}'", "12 samples",
        "Not drawn, since no trained weight moves them: still.", "+0.00 and +0.50, taken at 50 % of the way",
    ):  # fmt: skip
        assert words in page.text, words
    assert {0.25, 0.875, -1.25, -0.625, 0.625} <= {value for value, _ in page.numbers}


def test_marks_lie_where_forecast_and_advice_say() -> None:
    figures = forecast_figures(EXPECTED, ADVICE)
    assert [figure.static for figure in figures] == ["place", "layers"]
    for figure in figures:
        for panel in figure.panels:
            go.Figure({"data": panel.data, "layout": panel.layout})
    marks = [t for t in figures[0].panels[0].data if t["mode"] == "markers"]
    assert [key.label for key in figures[0].panels[0].keys] == ["without a change", "output multiplier"]
    assert [(t["x"], t["y"]) for t in marks] == [([0.25], [0.875]), ([-1.25], [-0.625])]
    assert (marks[0]["error_y"]["array"], marks[0]["error_y"]["arrayminus"]) == ([0.125], [0.125])
    assert figures[1].panels[0].data[0]["y"] == [0.25]


def test_a_still_picture_stands_in_without_a_script(page: Read) -> None:
    [still] = [a["src"] for tag, a in page.elements if tag == "img"]
    assert still.startswith("data:image/svg+xml")


def test_a_figure_without_panels_cannot_be_saved_as_one() -> None:
    assert render(EXPECTED).count('data-save="svg"') == 2
    bare = render(replace(EXPECTED, kernel_demand=math.nan, layers=LAYERS.iloc[1:]))
    assert bare.count('data-save="svg"') == 0
    assert bare.count('data-save="csv"') == 1


def test_without_advice_or_a_place_it_says_so() -> None:
    bare = replace(EXPECTED, kernel_demand=math.nan, layers=LAYERS.iloc[1:], flags=())
    text = render(bare)
    assert "No change was asked for" in text
    assert "Nothing is known to limit them" in text
    assert [figure.static for figure in forecast_figures(bare, None)] == ["layers"]
    assert forecast_figures(bare, None)[0].panels == []
    fixed = forecast_figures(replace(EXPECTED, kernel_demand=-math.inf), None)[0].panels[0].data[0]
    assert fixed["marker"]["symbol"] == "triangle-down"


def test_files_of_others_stay(tmp_path: Path) -> None:
    from geomfeat.errors import OutputExists

    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(OutputExists):
        EXPECTED.to_html(tmp_path / "mine.html")
