"""Demand against theory at the small size: one line for all modes, and layers at different places."""

from __future__ import annotations

import pytest

from tests.lab.small_runs import small_run


def test_demand_follows_theory_and_the_layers_of_one_network_differ() -> None:
    found = small_run("demand-and-theory")
    assert found.failed == []
    modes = found.table[found.table["part"] == "mode"]
    wide = modes[modes["width"] == 1024]
    assert (wide["R"] - wide["log_ratio"]).std() < 0.02
    slopes = {c.what: c.value for c in found.checks if "slope on log10 width" in c.what}
    first, second = (slopes[f"standard parameterization, {k}: slope on log10 width"] for k in ("fc1", "fc2"))
    assert first - second == pytest.approx(-1.0, abs=0.1)
