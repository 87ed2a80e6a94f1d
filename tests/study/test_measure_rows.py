"""One call of a measure: rows with facts, whatever happens inside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.registry import Measure, Quantity, get
from geomfeat.study import measure_rows
from geomfeat.study.measure_rows import guarded, measure_layers, measure_network
from geomfeat.types import Estimate, Representation

REP = Representation(torch.randn(8, 3), torch.arange(8) % 2, "fc1", {"reduce": "mean", "project": 5, "seed": 0})


def fake(function: Callable[..., Any], *quantities: str, needs: tuple[str, ...] = (), least: int = 2) -> Measure:
    named = {q: Quantity() for q in quantities or ("fake",)}
    return Measure(function, "fake", "layer", "", named, frozenset(), frozenset(needs), False, least, {"k": 3})


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: object) -> Any:
        raise error

    return function


def test_rows_say_what_was_measured_on_what() -> None:
    [row] = measure_layers(get("stable_rank"), REP, seed=0, at="trained")
    assert (row["layer"], row["n"], row["d"], row["dtype"], row["device"]) == ("fc1", 8, 3, "float32", "cpu")
    assert row["seconds"] > 0
    assert json.loads(row["options"]) == {"project": 5, "reduce": "mean"}
    assert row["value"] == get("stable_rank")(REP).value


@pytest.mark.parametrize(("small", "inside"), [(8 * 3 + 1, 1), (8 * 3, 2)])
def test_measures_of_small_layers_keep_the_libraries_on_one_thread(
    small: int, inside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_rows, "SMALL", small)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        [row] = measure_layers(fake(lambda rep: Estimate(torch.get_num_threads())), REP, seed=0, at="init")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert row["value"] == inside


def test_a_seed_goes_to_measures_that_take_one() -> None:
    def seeded(rep: Representation, *, seed: int = 0) -> Estimate:
        return Estimate(seed)

    assert measure_layers(fake(seeded), REP, seed=7, at="init")[0]["value"] == 7
    assert measure_layers(fake(lambda rep: Estimate(1.0)), REP, seed=7, at="init")[0]["value"] == 1


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (BadInput("constant: leave it out"), "measure 'fake': constant: leave it out"),
        (OutOfMemory("batch_size=8 fits"), "batch_size=8 fits"),
        (torch.OutOfMemoryError("CUDA is full\ndetails"), "out of memory (CUDA is full): use fewer samples"),
        (RuntimeError("shapes"), "unexpected RuntimeError: shapes. Its traceback is in the log (--debug)"),
    ],
)
def test_an_exception_is_a_failed_row_for_each_quantity(error: Exception, note: str) -> None:
    rows = measure_layers(fake(raising(error), "a", "b"), REP, seed=0, at="trained")
    assert [(r["quantity"], r["ok"]) for r in rows] == [("a", False), ("b", False)]
    assert all(note in r["note"] for r in rows)


def test_the_traceback_of_an_unexpected_exception_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "geomfeat.study"):
        measure_layers(fake(raising(RuntimeError("shapes"))), REP, seed=0, at="trained")
    assert "fake of trained fc1 failed" in caplog.text
    assert "Traceback" in caplog.text


def test_an_interruption_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        guarded(raising(KeyboardInterrupt()), "work")


def test_a_measure_that_forgets_a_quantity_is_a_failed_row() -> None:
    rows = measure_layers(fake(lambda rep: {"a": Estimate(1.0)}, "a", "b"), REP, seed=0, at="trained")
    assert [r["ok"] for r in rows] == [False, False]


@pytest.mark.parametrize(
    ("measure", "rep", "note"),
    [
        (fake(raising(AssertionError("must not be called")), least=9), REP, "needs at least 9 samples, got 8"),
        (fake(raising(AssertionError()), needs=("outputs",)), REP, "needs outputs"),
        (fake(raising(AssertionError()), needs=("labels",)), REP.with_(labels=None), "pass labels="),
    ],
)
def test_a_measure_is_not_called_without_what_it_needs(measure: Measure, rep: Representation, note: str) -> None:
    [row] = measure_layers(measure, rep, seed=0, at="trained")
    assert not row["ok"]
    assert note in row["note"]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Estimate(1.0), [("", "fake", 1.0)]),
        ({"a": Estimate(1.0), "b": Estimate(2.0)}, [("", "a", 1.0), ("", "b", 2.0)]),
        ({"": {"a": Estimate(1.0)}, "fc1": {"a": Estimate(2.0)}}, [("", "a", 1.0), ("fc1", "a", 2.0)]),
        ({"": {"a": Estimate(1.0)}, "fc1": Estimate(2.0)}, [("", "a", 1.0), ("fc1", "fake", 2.0)]),
    ],
)
def test_diagnostics_have_rows_by_layer(result: Any, expected: list[tuple[str, str, float]]) -> None:
    rows = measure_network(fake(lambda pair: result), None, seed=0, facts={"at": "init->trained"})
    assert [(r["layer"], r["quantity"], r["value"]) for r in rows] == expected
