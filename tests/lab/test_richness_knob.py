"""The knob's experiment at its small size: slopes, the lazy identity, and less movement than demand at the rich end."""

from __future__ import annotations

import numpy as np
import pytest

from geomfeat.lab.result import Findings
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("richness-knob")


def test_the_checks_hold(found):
    assert len(found.checks) == 6
    assert found.failed == []
    assert found.notes == []


def test_all_cells_are_matched_in_loss(found):
    assert set(found.table["network"]) == {"mlp", "cnn"}
    assert found.table["converged"].all()
    assert found.table["loss"].between(0.0495, 0.05).all()


def test_demand_of_the_targets_is_gamma_and_a_constant(found):
    for _, part in found.table.groupby("network"):
        constant = part["demand_of_target"] - np.log10(part["gamma"])
        assert np.ptp(constant) < 1e-6


def test_rich_learning_moves_less_than_the_linearised_network_would(found):
    for _, part in found.table.groupby("network"):
        gap = part["movement"] - part["demand_of_target"]
        assert abs(gap.iloc[0]) < 0.02
        assert gap.iloc[-1] < -0.2
    assert "decades" in found.answer
