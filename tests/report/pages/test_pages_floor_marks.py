"""Capacities at the floor are marked on every page, outside of the lines, with the floor beside them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from geomfeat.comparison.models._compare import compare
from geomfeat.comparison.models.options import CompareOptions
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR, at_floor, floor_note
from geomfeat.report import figures
from geomfeat.report.content.study_view import views
from geomfeat.report.pages.comparison import differences_table, render
from geomfeat.report.plotly.depth import profile_figures as compared_figures
from geomfeat.report.plotly.profiles import profile_figures
from geomfeat.study import Study
from geomfeat.types import Representation
from tests.report import synthetic

LOW = ["layers.0", "layers.1"]


@pytest.fixture(scope="module")
def study() -> Study:
    """Of six layers, the first two are at the floor after training."""
    made = synthetic.make_study()
    table = made.table.copy()
    low = (table["measure"] == "capacity") & (table["quantity"] == "capacity") & table["layer"].isin(LOW)
    table.loc[low & (table["at"] == "trained"), "note"] = floor_note(10, 64)
    floors = table[(table["measure"] == "capacity") & (table["quantity"] == "capacity")]
    floors = floors.assign(quantity="capacity_floor", value=10 / 64, stderr=float("nan"), note="")
    return replace(made, table=pd.concat([table, floors], ignore_index=True))


def test_a_page_draws_marks_and_the_floor_and_leaves_gaps_in_the_line(study: Study) -> None:
    (figure,) = [f for f in profile_figures(views(study)) if f.key == "classes"]
    panel = next(p for p in figure.panels if p.title == "Manifold capacity")
    trained = next(t for t in panel.data if t["meta"].get("at") == "trained" and "lines" in t["mode"])
    assert [y is None for y in trained["y"]] == [True, True, False, False, False, False]
    (marks,) = [t for t in panel.data if t["mode"] == "markers"]
    value = study.table.query("measure == 'capacity' and quantity == 'capacity' and at == 'trained'")["value"].tolist()
    assert marks["y"] == value[:2]
    assert AT_FLOOR in marks["hovertemplate"]
    assert any(set(t["y"]) == {10 / 64} for t in panel.data)
    assert "says nothing" in floor_note(10, 64)
    assert not any(p.title == "capacity_floor" for p in figure.panels)
    assert "floor" in figure.caption


def test_tables_of_the_page_say_it_in_words(study: Study) -> None:
    (figure,) = [f for f in profile_figures(views(study)) if f.key == "classes"]
    table = next(t for t in figure.tables if t.title.startswith("Manifold capacity ("))
    assert table.columns[-1].endswith("floor")
    trained = [row[2] for row in table.rows]
    assert [AT_FLOOR in cell.text for cell in trained] == [True, True, False, False, False, False]
    assert trained[0].hint == floor_note(10, 64)
    assert {row[-1].text for row in table.rows} == {"0.156"}


def test_printed_figures_mark_it_too(study: Study) -> None:
    axes = figures.layer_profiles([study], "classes").axes[0]
    marked = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in marked] == [2]


def test_a_comparison_makes_no_ratio_with_a_model_at_the_floor() -> None:
    noise = torch.Generator().manual_seed(0)
    labels = torch.arange(240) % 4
    centers = 3 * torch.randn(4, 60, generator=noise)
    models = {
        name: {"fc": Representation(torch.randn(240, units, generator=noise) + shift, labels, layer="fc")}
        for name, units, shift in (("noise", 12, 0.0), ("signal", 60, centers[labels]), ("more", 60, centers[labels]))
    }
    found = compare(models, measures=["capacity"], progress=False, options=CompareOptions(n_draws=40))
    rows = found.differences.set_index(["model", "other"])
    assert rows["log_difference"].isna().to_dict() == {
        ("noise", "signal"): True, ("noise", "more"): True, ("signal", "more"): False,
    }  # fmt: skip
    assert all(at_floor(note) == isna for note, isna in zip(rows["note"], rows["log_difference"].isna(), strict=True))
    profile = found.profiles.query("quantity == 'capacity'").set_index("model")
    assert profile["note"].map(at_floor).to_dict() == {"noise": True, "signal": False, "more": False}
    floors = found.profiles.query("quantity == 'capacity_floor'").set_index("model")["value"].to_dict()
    assert floors == {"noise": 4 / 12, "signal": 4 / 60, "more": 4 / 60}
    table = differences_table(found)
    assert table is not None
    assert [row[2].text == AT_FLOOR for row in table.rows] == [True, True, False]
    panel = compared_figures(found)[0].panels[0]
    assert [t["mode"] for t in panel.data if t["meta"]["model"] == 0] == ["lines+markers", "markers", "lines"]
    assert f"({AT_FLOOR})" in render(found)
