"""The first plots of a validation: a row for every family, in the order of its distance from what is expected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geomfeat.comparison.validation.files import load_validation
from geomfeat.report.pages.validation_forest import forest_plots
from geomfeat.report.plotly.charts import lab_figure


@pytest.fixture(scope="module")
def shipped():
    """The campaign that is shipped with the package."""
    return load_validation(None)


def test_every_ladder_has_its_slope_and_error_on_a_row_of_its_name(shipped):
    slopes, _ = forest_plots(shipped)
    families = shipped.families.set_index("family")
    assert sorted(slopes.y_ticks) == sorted(families.index)
    *measured, line = slopes.curves
    for curve in measured:
        for x, y, error in zip(curve.x, curve.y, curve.error, strict=True):
            row = families.loc[slopes.y_ticks[int(y)]]
            assert (x, error) == (row["slope"], row["slope_stderr"])
            assert bool(row["breaks"]) is ("broken" in curve.label)
    assert list(line.x) == [1.0, 1.0]
    distances = [abs(families.loc[name, "slope"] - 1) for name in slopes.y_ticks if not families.loc[name, "breaks"]]
    assert distances == sorted(distances)


def test_families_in_which_the_rule_is_broken_stand_last_however_near_they_are(shipped):
    near = shipped.families.copy()
    near.loc[near["breaks"] != "", "slope"] = 1.0
    slopes, _ = forest_plots(replace(shipped, families=near))
    broken = set(near[near["breaks"] != ""]["family"])
    assert set(slopes.y_ticks[-len(broken) :]) == broken


def test_coverage_has_the_families_that_miss_some_and_counts_the_others(shipped):
    _, coverage = forest_plots(shipped)
    every = [*shipped.families["coverage"], *shipped.by_outcome.outcome_families["coverage"]]
    missed = sorted(value for value in every if value < 1)
    assert list(coverage.curves[0].x) == missed
    assert f"in {sum(value == 1 for value in every)} further ones" in coverage.caption


def test_a_validation_of_nothing_has_no_plots(shipped):
    empty = replace(shipped, families=shipped.families.head(0), outcomes=shipped.outcomes.head(0))
    assert forest_plots(empty) == []


def test_rows_are_drawn_from_the_top_with_bars_along_x(shipped):
    slopes, _ = forest_plots(shipped)
    (panel,) = lab_figure(slopes).panels
    rows = len(slopes.y_ticks)
    assert panel.layout["yaxis"]["range"] == [rows - 0.5, -0.5]
    assert panel.layout["yaxis"]["automargin"] == "width"
    assert panel.layout["height"] > 15 * rows
    assert "error_x" in panel.data[0]
    assert "error_y" not in panel.data[0]
