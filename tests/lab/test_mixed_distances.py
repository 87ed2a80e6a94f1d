"""Distances of the lazy and active formulas at the small size: closed forms of one mode, and what the plane shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomfeat.charts import Heat
from geomfeat.lab.mixed_distances import _aligned
from geomfeat.lab.result import Findings
from geomfeat.numerics import WORKING
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("mixed-distances")


@pytest.mark.parametrize("c", [0.05, 0.42, 3.0])
def test_one_mode_misses_what_the_integrals_say(c: float) -> None:
    # int_0^1 (1 - c / sqrt(s^2 + c^2)) ds and int_0^1 (1 - s / sqrt(s^2 + c^2)) ds
    _, _, lazy, active = _aligned(c, torch.ones(1, dtype=WORKING), 20_000)
    assert lazy == pytest.approx(1 - c * math.asinh(1 / c), abs=1e-3)
    assert active == pytest.approx(1 + c - math.hypot(1, c), abs=1e-3)


def test_one_lazy_mode_converges_exponentially() -> None:
    time, distance, _, _ = _aligned(1e4, torch.ones(1, dtype=WORKING), 100)
    assert time == pytest.approx(math.log(100) / 2e4, rel=1e-2)
    assert distance < 1e-6


def test_all_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 7


def test_lazy_is_right_above_the_line_and_active_motion_below(found: Findings) -> None:
    table = {str(name): found.table[name].to_numpy(float) for name in found.table}
    above = table["log_d variance"] + table["log_d width"] - 1
    kept = (table["start"] < 0.2) & (table["log_d width"] > 2.4)
    lazy, active = (table[f"missed by {name} alone"] for name in ("lazy", "active"))
    assert (lazy < active)[kept & (above > 0)].all()
    assert (active < lazy)[kept & (above < -1)].all()
    far = kept & (above < -1)
    assert (table["distance of mixed"] < 0.2 * table["distance of active alone"])[far].all()
    assert (table["time"][far] > table["time"][kept & (above >= 0)].max()).all()


def test_maps_leave_out_cells_that_start_larger_than_the_target(found: Findings) -> None:
    maps = [plot for plot in found.plots if isinstance(plot, Heat)]
    assert len(maps) == 4
    values = np.array(maps[0].values)
    assert np.isnan(values[-1, -1])
    assert np.isfinite(values[0]).all()
