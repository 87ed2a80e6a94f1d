"""Models that started from the same weights: the start is drawn once, in grey, and named; so is their ladder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from geomfeat.charts import theme as look
from geomfeat.report.content.study_view import INITIAL, TRAINED, views
from geomfeat.report.plotly.maps import cka_matrices, embeddings
from geomfeat.report.plotly.probes import probes_and_ladder
from geomfeat.report.plotly.profiles import profile_figures
from tests.report.synthetic import make_study


def apart(study, share):
    """The study with matrices that no other made-up study has."""
    arrays = {key: value * (share if key.startswith("cka") else 1) for key, value in study.arrays.items()}
    return replace(study, arrays=arrays)


@pytest.fixture(scope="module")
def siblings():
    """Two models with one start, and a third with another."""
    first = make_study("first", -1.0, ladder=True)
    second, third = make_study("second", 0.5, ladder=True), make_study("third", 0.8, seed=9)
    second, third = apart(second, 0.99), apart(third, 0.98)
    early = first.table["at"] == "init"
    table = second.table.copy()
    table.loc[table["at"] == "init", ["value", "stderr"]] = first.table.loc[early, ["value", "stderr"]].to_numpy()
    kept = {key: value for key, value in first.arrays.items() if "/initial/initial" in key or "umap/initial" in key}
    return views([first, replace(second, table=table, arrays={**second.arrays, **kept}), third])


def by_title(figure):
    return {panel.title: panel for panel in figure.every}


def test_a_shared_start_is_one_grey_line_and_other_lines_keep_their_colours(siblings):
    capacity = by_title(profile_figures(siblings)[0])["Manifold capacity"]
    lines = [trace for trace in capacity.data if trace["meta"].get("at") in (INITIAL, TRAINED)]
    early = [trace for trace in lines if trace["meta"]["at"] == INITIAL]
    assert [trace["meta"].get("model") for trace in early] == [None, 2]
    shared, other = early
    assert shared["line"]["color"] == shared["marker"]["color"] == shared["error_y"]["color"] == look.QUIET
    assert {name for name, _ in shared["customdata"]} == {"start of first, second"}
    assert other["line"]["color"] == siblings[2].colour
    assert [t["line"]["color"] for t in lines if t["meta"]["at"] == TRAINED] == [view.colour for view in siblings]
    values = siblings[0].at(INITIAL, "capacity", "capacity")
    assert shared["y"] == [values[layer].value for layer in siblings[0].layers]


def test_the_note_on_grey_lines_is_there_only_where_one_is_drawn(siblings):
    said = "the start that several models share"
    assert said in profile_figures(siblings)[0].note
    others = make_study("b", 0.5, seed=4)
    table = others.table.assign(value=others.table["value"] * 1.001)
    several = views([make_study("a", -1.0), replace(others, table=table)])
    assert not any(said in figure.note for figure in profile_figures(several))


def test_matrices_and_points_of_a_shared_start_stand_once(siblings):
    squares = cka_matrices(siblings)
    assert squares is not None
    titles = [panel.title for panel in squares.panels]
    assert titles[:3] == ["first, second: initial with initial", "first: trained with trained",
                          "first: initial with trained"]  # fmt: skip
    assert len(titles) == 8
    assert [panel.model for panel in squares.panels[:4]] == [None, 0, 0, 1]
    assert [table.title for table in squares.tables] == titles
    (points,) = embeddings(siblings)
    assert [panel.title for panel in points.panels] == [
        "first, second: initial", "first: trained", "second: trained", "third: initial", "third: trained"
    ]  # fmt: skip


def test_models_of_one_ladder_stand_in_one_panel(siblings):
    figure = probes_and_ladder(siblings)
    assert figure is not None
    _, ladder = figure.panels
    assert (ladder.title, ladder.model) == ("Ladder of first, second", None)
    marks = [trace for trace in ladder.data if trace["mode"] == "markers"]
    assert [trace["meta"] for trace in marks] == [{"model": 0}, {"model": 1}]
    lines = [trace for trace in ladder.data if trace.get("hoverinfo") == "skip"]
    assert [trace["y"] for trace in lines] == [[view.location.richness] * 2 for view in siblings[:2]]
    alone = probes_and_ladder(siblings[:1])
    assert alone is not None
    assert [panel.model for panel in alone.panels] == [None, 0]


def test_near_copies_and_lines_without_change_are_closed_at_first(siblings):
    classes, alignment, *_ = profile_figures(siblings)
    assert [panel.title for panel in classes.panels] == [
        "Manifold capacity", "Class dimension D", "Class radius Rₘ", "Utility Ψ"
    ]  # fmt: skip
    assert {panel.title for panel in classes.folded} == {
        "Predicted simulated capacity", "Draws inside the cone", "Labelings that cannot be separated"
    }  # fmt: skip
    assert all(panel.title in classes.fold_title for panel in classes.folded)
    assert alignment.folded == []


def test_a_constant_panel_is_closed_and_one_alone_stays_open():
    study = make_study()
    table = study.table.copy()
    table.loc[table["measure"] == "utility", "value"] = 0.7
    flat = table[(table["measure"] == "linear_probe_accuracy")].assign(value=0.95)
    rest = table[~table["measure"].isin(["linear_probe_accuracy", "nc1", "d_lr", "label_alignment_unbiased"])]
    only_flat = views([replace(study, table=pd.concat([rest, flat]))])
    labels = next(figure for figure in profile_figures(only_flat) if figure.key == "labels")
    assert [panel.title for panel in labels.panels] == ["Linear probe accuracy"]
    both = views([replace(study, table=pd.concat([rest, flat, table[table["measure"] == "nc1"]]))])
    labels = next(figure for figure in profile_figures(both) if figure.key == "labels")
    assert [panel.title for panel in labels.panels] == ["Within-class scatter (NC1)"]
    assert [panel.title for panel in labels.folded] == ["Linear probe accuracy"]


def test_nothing_is_merged_where_starts_differ_in_the_last_digit(siblings):
    moved = siblings[1].study
    arrays = {**moved.arrays, "cka/initial/initial": np.nextafter(moved.arrays["cka/initial/initial"], 2)}
    several = views([siblings[0].study, replace(moved, arrays=arrays)])
    squares = cka_matrices(several)
    assert squares is not None
    assert len(squares.panels) == 6
    assert squares.shape == "triples"
