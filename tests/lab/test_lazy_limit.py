"""The lazy limit's experiment at its small size: numbers beyond the checks that it makes itself."""

from __future__ import annotations

import pytest

from geomfeat.lab.result import Findings
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("lazy-limit")


def test_all_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 6


def test_the_gap_grows_with_gamma_and_with_training(found: Findings) -> None:
    curves = found.plots[1].curves  # pyright: ignore[reportAttributeAccessIssue]
    last = [curve.y[-1] for curve in curves]
    assert last == sorted(last)
    assert all(curve.y[-1] > curve.y[0] for curve in curves)


def test_networks_leave_the_lazy_regime(found: Findings) -> None:
    rich = found.table[found.table.gamma == 1.0]
    assert (rich.network_linearised > 0.02).all()
    assert (rich.gap > 0.02).all()
