"""The page of a monitored training: whole, every number in it, events numbered, hostile names escaped, and served."""

from __future__ import annotations

import math
from pathlib import Path

import plotly.graph_objects as go
import pytest

from geomfeat.errors import OutputExists
from geomfeat.monitoring import Event, Monitored, Row
from geomfeat.monitoring.result import monitored
from geomfeat.report.pages.monitor import render, write_monitor_page
from geomfeat.report.plotly.monitor import monitor_figures
from tests.report.html_reader import Read, assert_contents_lead_to_all_sections, assert_whole, read

HOSTILE = '</script><b>"%{x}" $y$ & co'


def record(n_layers: int = 2, steps: int = 4) -> Monitored:
    rows = []
    for k in range(steps):
        layers = {
            f"{HOSTILE}{i}": {
                "richness": -1.0 + 0.25 * k if k else math.nan, "movement": -1.125 + 0.25 * k if k else -math.inf,
                "excess": -0.125 if k else math.nan, "spread": 0.5, "dead": 0.0625 * i, "participation_ratio": 3.5 + k,
            }
            for i in range(n_layers)
        }  # fmt: skip
        network = {"loss": 1.0 / (k + 1), "worst_loss": 1.5 / (k + 1), "probe_loss": 0.75, "rate": 0.1}
        if k:
            network |= {
                "richness": -1.0 + 0.25 * k, "movement": -1.125 + 0.25 * k, "excess": -0.125, "kernel_demand": -0.375,
                "kernel_change": 0.0078125 * k, "kernel_size": 1.25, "kernel_turn": 0.03125, "weight_change": 0.15625,
            }  # fmt: skip
        rows.append(Row(10 * k, 0, network, layers, "lazy" if k else "", 0.5, 10.0 * k))
    events = [Event(10, "dead layer", f"Layer {HOSTILE}0 is dead.", f"{HOSTILE}0"), Event(20, "catapult", "It leapt.")]
    return monitored(rows, events, HOSTILE, ("A note.",))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_monitor_page(record(), tmp_path_factory.mktemp("page") / "m.html", settings={"kernel": "demand"})


@pytest.fixture(scope="module")
def page(path: Path) -> Read:
    return read(path)


def test_the_page_is_whole_and_its_links_lead_somewhere(page: Read) -> None:
    assert_whole(page)
    assert_contents_lead_to_all_sections(page)


def test_it_says_where_the_training_is_what_happened_and_what_it_cost(page: Read) -> None:
    for words in (
        "At step 30:", "lazy", "it learned almost like a model that is linear in its weights", "Step 10.", "It leapt.",
        f"Layer {HOSTILE}0 is dead.", "A note.", "4 measurements, which took 5.0 % of the training time", "demand",
        "−0.25 decades",
    ):  # fmt: skip
        assert words in page.text, words


def test_every_number_is_in_a_table(page: Read) -> None:
    shown = [value for value, _ in page.numbers]
    for value in (-0.75, -0.625, -0.125, 0.5, 0.0625, 6.5, -0.375, 0.0078125, 1.25, 0.03125, 0.75, 0.1, 1.5):
        assert value in shown, value


@pytest.mark.parametrize("n_layers", [1, 3, 12])
def test_plotly_takes_every_panel_and_events_are_lines_at_their_steps(n_layers: int) -> None:
    figures = monitor_figures(record(n_layers))
    assert [figure.key for figure in figures] == ["place", "kernel", "loss", "units", "measures"]
    for panel in (panel for figure in figures for panel in figure.panels):
        layout = {k: v for k, v in panel.layout.items() if k != "dragmode"}
        assert len(go.Figure(panel.data, layout).data) == len(panel.data)
        upright = [shape["x0"] for shape in panel.layout["shapes"] if shape["xref"] == "x"]
        assert upright == [10, 20]
        assert [(a["x"], a["text"]) for a in panel.layout["annotations"]] == [(10, "1"), (20, "2")]
    assert len(figures[0].panels[0].data) == n_layers + 1
    assert (figures[0].bar is not None) == (n_layers == 12)


def test_a_training_without_measurements_has_a_page(tmp_path: Path) -> None:
    found = read(write_monitor_page(monitored([], []), tmp_path / "m.html"))
    assert "No measurement yet." in found.text
    assert found.unclosed == []


def test_numbers_that_are_missing_leave_their_figures_out() -> None:
    rows = [Row(k, 0, {"loss": math.nan}, {}, note="the weights hold NaN") for k in range(3)]
    assert monitor_figures(monitored(rows, [])) == []
    assert "the weights hold NaN" in render(monitored(rows, []))


def test_the_same_record_gives_the_same_page_which_loads_nothing(path: Path, tmp_path: Path) -> None:
    again = write_monitor_page(record(), tmp_path / "m.html", settings={"kernel": "demand"})
    assert again.read_bytes() == path.read_bytes()
    assert "connect-src" not in path.read_text(encoding="utf-8")
    assert "connect-src 'self';" in render(record(), live="17")


def test_a_page_of_the_users_stays(tmp_path: Path) -> None:
    (tmp_path / "m.html").write_text("mine")
    with pytest.raises(OutputExists):
        write_monitor_page(record(), tmp_path / "m.html")
