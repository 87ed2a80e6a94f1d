"""Cells, contours and theory's lines on planted planes."""

from __future__ import annotations

import numpy as np
import pytest

import geomfeat
from geomfeat.comparison.relations._relate import residuals
from geomfeat.comparison.relations.phase_map import contours, grid_of, numbers_of, theory_line
from geomfeat.errors import BadInput
from geomfeat.types import Estimate
from tests.comparison.swept import Numbers, log, sweep

SIGMA, ETA = [0.1, 1.0, 10.0], [0.01, 0.1, 1.0, 10.0]
R = ("location", "richness", "")


def numbers(c: dict, s: int) -> tuple[Numbers, dict]:
    if c["eta"] == 10.0 and c["sigma"] == 10.0:
        return {R: Estimate.failed("no")}, {"outcome": "diverged", "note": f"diverged at step {s}"}
    if c["eta"] == 1.0 and c["sigma"] == 10.0 and s == 0:
        return {R: 50.0}, {"outcome": "unmatched", "note": "out of steps"}
    status = {"stability": 3.0 if c["eta"] == 10.0 else 0.1}
    return {R: -3 * log(c["sigma"]) + 0.5 * log(c["eta"]) + 0.1 * (s - 1)}, {"status": status}


def test_cells_are_means_over_seeds_and_failed_ones_say_why() -> None:
    grid = grid_of(numbers_of(sweep({"sigma": SIGMA, "eta": ETA}, 3, numbers), "location", "richness"), "sigma", "eta")
    assert grid.value.shape == (4, 3)
    x, y = np.meshgrid(grid.log_x, grid.log_y)
    plane = -3 * x + 0.5 * y
    whole = grid.left_out == 0
    np.testing.assert_allclose(grid.value[whole], plane[whole])
    np.testing.assert_allclose(grid.spread[whole], 0.1)
    assert np.argwhere(grid.failed).tolist() == [[3, 2]]
    assert grid.reason[3, 2] == "; ".join(f"did not end: diverged at step {s}" for s in range(3))
    assert (grid.n[2, 2], grid.left_out[2, 2]) == (2, 1)
    assert grid.value[2, 2] == pytest.approx(-3 + 0.05)
    assert "target loss" in grid.reason[2, 2]
    assert grid.phase[3].tolist() == ["catapult", "catapult", "diverged"]
    assert grid.phase[0].tolist() == ["", "", ""] or grid.phase[0, 0] == "flow"


def test_cells_that_were_not_trained_are_empty_and_not_failed() -> None:
    table = sweep({"sigma": SIGMA, "eta": ETA}, 2, numbers)
    grid = grid_of(
        numbers_of(table[(table["sigma"] < 10) | (table["eta"] < 1)], "location", "richness"), "sigma", "eta"
    )
    assert not grid.failed.any()
    assert np.isnan(grid.value[2:, 2]).all()


def test_iso_richness_lines_are_where_the_plane_has_that_height() -> None:
    table = sweep({"sigma": SIGMA, "eta": ETA[:3]}, 3, lambda c, s: {R: -3 * log(c["sigma"]) + 0.5 * log(c["eta"])})
    grid = grid_of(numbers_of(table, "location", "richness"), "sigma", "eta")
    lines = contours(grid, [0.0, 1.0, 99.0])
    assert lines[99.0] == []
    for level in (0.0, 1.0):
        points = np.concatenate(lines[level])
        np.testing.assert_allclose(-3 * points[:, 0] + 0.5 * points[:, 1], level, atol=1e-12)
        ends = theory_line(grid, level, -3.0, 0.5)
        np.testing.assert_allclose(-3 * ends[:, 0] + 0.5 * ends[:, 1], level, atol=1e-12)
        assert np.ptp(points[:, 1]) == pytest.approx(np.ptp(ends[:, 1]))
    upright = theory_line(grid, 0.5, -3.0, 0.0)
    assert upright[0, 0] == upright[1, 0]
    assert sorted(upright[:, 1]) == [-2.0, 0.0]
    assert len(theory_line(grid, 99.0, -3.0, 0.0)) == 0


def test_contours_end_at_cells_that_failed() -> None:
    grid = grid_of(numbers_of(sweep({"sigma": SIGMA, "eta": ETA}, 3, numbers), "location", "richness"), "sigma", "eta")
    points = np.concatenate(contours(grid, [-2.0])[-2.0])
    corner = points[(points[:, 0] > 0) & (points[:, 1] > 0)]
    assert (corner.sum(1) <= 1 + 1e-12).all()
    assert len(contours(grid, [2.5])[2.5]) == 1


def test_a_grid_of_residuals_is_a_map_of_curvature() -> None:
    table = sweep({"sigma": SIGMA, "eta": ETA}, 2, lambda c, s: {R: log(c["sigma"]) ** 2})
    grid = grid_of(residuals(table, "location", "richness"), "sigma", "eta", "residual")
    np.testing.assert_allclose(grid.value, np.tile([1 / 3, -2 / 3, 1 / 3], (4, 1)), atol=1e-12)


def test_other_conditions_must_be_fixed() -> None:
    table = sweep({"sigma": SIGMA, "eta": ETA, "width": [64, 128]}, 2, lambda c, s: {R: log(c["width"])})
    trainings = numbers_of(table, "location", "richness")
    with pytest.raises(BadInput, match=r"width varies within cells of sigma and eta.*64\.0, 128\.0"):
        grid_of(trainings, "sigma", "eta")
    grid = grid_of(trainings, "sigma", "eta", where={"width": 64})
    np.testing.assert_allclose(grid.value, log(64))
    assert (grid.n == 2).all()


def test_bad_input_says_what_to_do() -> None:
    table = sweep({"sigma": SIGMA, "eta": ETA}, 2, numbers)
    trainings = numbers_of(table, "location", "richness")
    with pytest.raises(BadInput, match="condition 'sigmma'; near: sigma"):
        grid_of(trainings, "sigmma", "eta")
    with pytest.raises(BadInput, match="both 'eta'"):
        grid_of(trainings, "eta", "eta")
    with pytest.raises(BadInput, match="optimizer is not a number"):
        grid_of(trainings, "optimizer", "eta")
    with pytest.raises(BadInput, match="no training has depth=7; there are: 2"):
        grid_of(trainings, "sigma", "eta", where={"depth": 7})
    with pytest.raises(BadInput, match="two values of depth"):
        contours(grid_of(trainings.query("eta == .1"), "depth", "sigma"), [0.0])
    grid = grid_of(trainings, "sigma", "eta")
    with pytest.raises(BadInput, match="without a slope"):
        theory_line(grid, 0.0, 0.0, 0.0)
    with pytest.raises(BadInput, match="no cell"):
        theory_line(grid_of(trainings.assign(value=np.nan), "sigma", "eta"), 0.0, -3.0, 0.0)


def test_a_portrait_is_the_grid_of_a_number_and_public_with_relate_and_match() -> None:
    table = sweep({"sigma": [0.5, 1.0, 2.0], "eta": [0.01, 0.1], "width": [16, 64]}, 2, lambda c, s: {
        ("location", "richness", ""): -3 * log(c["sigma"]), ("dim", "dim", "fc1"): c["width"] + s})  # fmt: skip
    with pytest.raises(BadInput, match="width varies within cells"):
        geomfeat.portrait(table)
    found = geomfeat.portrait(table, where={"width": 64})
    np.testing.assert_allclose(found.value, -3 * np.log10([[0.5, 1.0, 2.0]] * 2))
    turned = geomfeat.portrait(table, "eta", "width", measure="dim", quantity="dim", layer="fc1", where={"sigma": 1.0})
    assert turned.value.tolist() == [[16.5, 16.5], [64.5, 64.5]]
    with pytest.raises(BadInput, match="no measure 'locaton'; near: location"):
        geomfeat.portrait(table, measure="locaton")
    slopes = geomfeat.relate(table).slopes
    assert slopes[(slopes["measure"] == "location") & (slopes["term"] == "sigma")]["slope"].iloc[0] == pytest.approx(-3)
    assert isinstance(geomfeat.match(table, "width"), geomfeat.Matched)
    assert isinstance(geomfeat.relate(table), geomfeat.Related)
