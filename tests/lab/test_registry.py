"""The frame of the lab, and the contract that every experiment keeps at its small size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils import backend_registration

from geomfeat.charts import Curve, Heat, Plot
from geomfeat.errors import BadInput
from geomfeat.lab import all_experiments, experiment, get_experiment, registry, run_experiment
from geomfeat.lab.result import Check, Findings
from tests.lab.on_simulated_gpu import numbers_of
from tests.lab.small_runs import small_run
from tests.warm_process import run_code

NO_BACKEND = not hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
# Those whose small size takes seconds there, where every operation passes through Python.
SIMULATED = ("phase-diagram",)


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


CLOSED_FORMS = {
    "demand-and-theory", "diagonal", "linear-networks", "mixed-distances", "mixed-dynamics", "task-sequences",
}  # fmt: skip


def test_experiments_train_on_a_device_or_say_that_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "resolve_device", torch.device)  # a machine with a GPU
    cuda = torch.device("cuda")
    for e in all_experiments():
        assert e.takes_device == (e.name not in CLOSED_FORMS), e.name
        assert e.device(None) == e.device("cpu") == torch.device("cpu")
        if e.takes_device:
            assert e.device("cuda") == cuda
            continue
        with pytest.raises(BadInput, match=f"device='cuda': experiment '{e.name}' trains no network on a device"):
            run_experiment(e.name, size="small", device="cuda")
    monkeypatch.setattr(registry, "resolve_device", lambda device: cuda if device == "auto" else torch.device(device))
    assert get_experiment("diagonal").device("auto") == torch.device("cpu")
    assert get_experiment("lazy-limit").device("auto") == cuda


def test_a_device_does_not_change_what_is_found(device: str) -> None:
    known, found = (run_experiment("phase-diagram", size="small", progress=False, device=d) for d in (None, device))
    numbers = ["width", "active modes", "smallest error"]
    np.testing.assert_allclose(found.table[numbers], known.table[numbers], rtol=0 if device == "cpu" else 1e-6)
    assert found.settings.get("device") == (None if device == "cpu" else "cuda")


@pytest.mark.slow
@pytest.mark.skipif(NO_BACKEND, reason="this torch cannot simulate a device")
def test_trainings_on_a_simulated_gpu_find_what_those_on_the_cpu_find(tmp_path: Path) -> None:
    """No mix of devices in them; their numbers differ by the order of sums alone."""
    done = run_code("from tests.lab.on_simulated_gpu import main\nmain()", tmp_path, *SIMULATED)
    found = json.loads(done.stdout)
    assert set(found) == set(SIMULATED)
    for name, numbers in found.items():
        assert not isinstance(numbers, str), (name, numbers)
        np.testing.assert_allclose(numbers, numbers_of(small_run(name).table), rtol=1e-6, atol=1e-9, err_msg=name)


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
