"""The frame of the lab, and the contract that every experiment keeps at its small size."""

from __future__ import annotations

import math

import pytest

from geomfeat.charts import Curve, Heat, Plot
from geomfeat.errors import BadInput
from geomfeat.lab import all_experiments, experiment, get_experiment, run_experiment
from geomfeat.lab.result import Check, Findings
from tests.lab.small_runs import small_run


# From the last on: the worker that runs the experiments' own tests from the first on is met half-way, and has run its
# half by then; side by side, both would run every experiment.
@pytest.fixture(scope="module", params=[e.name for e in reversed(all_experiments())])
def found(request: pytest.FixtureRequest) -> tuple[str, Findings]:
    return request.param, small_run(request.param)


@pytest.mark.slow
def test_every_experiment_answers_and_shows(found: tuple[str, Findings]) -> None:
    name, findings = found
    assert get_experiment(name).name == name
    assert findings.answer
    assert findings.plots
    assert findings.checks
    assert len(findings.table)
    for plot in findings.plots:
        assert plot.title
        curves = plot.curves if isinstance(plot, Plot) else plot.lines
        assert isinstance(plot, Heat) or any(c.kind == "measured" for c in curves) or len(curves)
        assert len({c.label for c in curves}) == len(curves), "two curves of one name"
        assert all(math.isfinite(v) or math.isnan(v) for c in curves for v in (*c.x, *c.y))
    assert any(c.kind == "theory" for p in findings.plots for c in (p.curves if isinstance(p, Plot) else p.lines))


@pytest.mark.slow
def test_every_experiment_agrees_with_theory_at_its_small_size(found: tuple[str, Findings]) -> None:
    assert found[1].failed == []


def test_every_experiment_says_what_it_asks() -> None:
    for e in all_experiments():
        assert e.question.endswith("?"), e.name
        assert e.theory, e.name
        assert e.source, e.name


def test_a_check_fails_outside_its_tolerance_and_where_there_is_no_number() -> None:
    assert Check("", 1.05, 1.0, 0.06).ok
    assert not Check("", 1.05, 1.0, 0.04).ok
    assert not Check("", math.nan, 1.0, 9.0).ok


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curve("a", [1, 2], [1]), "one length"),
        (lambda: Curve("a", [1], [1], [1, 2]), "one length"),
        (lambda: Curve("a", [1], [1], kind="guess"), "measured, theory"),
        (lambda: Heat("m", "", "", [1, 2], [1], [[1]], ""), "1 rows of 2"),
        (lambda: run_experiment("linear-network"), "linear-networks"),
        (lambda: run_experiment("linear-networks", size="huge"), "full, small"),
        (lambda: experiment(name="linear-networks", title="", question="", theory="", source="")(lambda *_: None),
         "registered twice"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(make, message: str) -> None:
    all_experiments()
    with pytest.raises(BadInput, match=message):
        make()
