"""Tasks in sequence at the small size: numbers beyond the checks that the experiment makes itself."""

from __future__ import annotations

import numpy as np
import pytest

from geomfeat.lab.result import Findings
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("task-sequences")


def part(found: Findings, name: str, **where: str) -> dict[str, np.ndarray]:
    """Columns of one part of the table, in order of lambda."""
    rows = found.table.sort_values(by="lambda")
    kept = rows["part"].to_numpy() == name
    for column, value in where.items():
        kept = kept & (rows[column].to_numpy() == value)
    return {c: rows[c].to_numpy(float)[kept] for c in ("lambda", "overlap", "measured", "loss left")}


def test_all_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 9


def test_the_first_task_is_learned_then_lost_by_descent_as_by_the_exact_solution(found: Findings) -> None:
    curves = {c.label: c.y for c in found.plots[0].curves}  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("λ = -10", "λ = -10, exact", "λ = 0", "λ = 0, exact"):
        assert curves[name][len(curves[name]) // 2 - 1] < 1e-3
        assert curves[name][-1] == pytest.approx(2.0, abs=0.01), "unrelated tasks of one size"


def test_forgetting_does_not_depend_on_the_balance_and_all_second_tasks_are_learned(found: Findings) -> None:
    lost = part(found, "forgetting")
    assert lost["loss left"].max() < 1e-4
    same, opposite = (lost["measured"][np.abs(lost["overlap"] - v) < 1e-9] for v in (1.0, -1.0))
    assert same.max() < 1e-9
    assert opposite == pytest.approx([4.0, 4.0], abs=1e-3)


def test_the_nearer_to_balance_the_longer_a_reversal_takes(found: Findings) -> None:
    times = part(found, "reversal")["measured"]
    assert (np.diff(times) < 0).all()
    assert times[0] > 5 * times[-1]


def test_a_new_answer_spreads_along_the_tree_where_the_first_layer_learned_it(found: Findings) -> None:
    names = ("sibling", "cousin", "other branch")
    sibling, cousin, other = (part(found, "transfer", item=name)["measured"] for name in names)
    assert (sibling > cousin).all()
    assert (cousin > other).all()
    assert (np.diff(sibling) > 0).all()
    # An item shares 3 of its 4 features with its sibling: 3/4 is the answer at lambda = inf.
    assert sibling[0] < 0.1
    assert 0.65 < sibling[-1] < 0.75
