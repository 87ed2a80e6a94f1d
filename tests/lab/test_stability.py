"""The experiment on the stable learning rate at its small size: numbers beyond the checks that it makes itself."""

from __future__ import annotations

import pytest

from geomfeat.lab.result import Findings
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("stable-learning-rate")


def test_all_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 12


def test_every_rate_is_bracketed(found: Findings) -> None:
    assert (found.table["stable rate"] < found.table["above"]).all()


def test_traces_show_what_their_names_say(found: Findings) -> None:
    loss, curvature = ({curve.label: curve.y for curve in plot.curves} for plot in found.plots[1:])  # pyright: ignore
    assert max(loss["flow"]) == 1.0
    assert max(loss["catapult"]) > 10
    assert max(curvature["flow"]) < 0.5
    assert curvature["catapult"][0] > 1 > curvature["catapult"][-1]
    assert curvature["edge of stability"][0] < 1
    assert curvature["edge of stability"][-1] == pytest.approx(1.0, abs=0.15)
