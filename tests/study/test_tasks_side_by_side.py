"""Small layers are measured side by side, each on one thread, with the numbers of one after the other."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, get_ident
from time import sleep
from typing import Any

import pandas as pd
import pytest
import torch

from geomfeat import registry
from geomfeat._numba.threads import given_up
from geomfeat.registry import measure
from geomfeat.study import Study, analyze, tasks
from geomfeat.study.options import StudyOptions
from geomfeat.study.table import Row
from geomfeat.types import Estimate, Representation
from tests.study.small import digits, model_at

MEASURES = ["capacity", "effective_rank", "linear_probe_accuracy", "nc1", "stable_rank"]


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def study(measures: list[str] = MEASURES, resume: Path | None = None) -> Study:
    x, y = digits()
    options = StudyOptions(umap=False, resume=resume)
    return analyze(
        model_at(2), x, y, initial=model_at(0), checkpoints={5: model_at(1)}, measures=measures, location=False,
        progress=False, options=options,
    )  # fmt: skip


def threads_of(monkeypatch: pytest.MonkeyPatch, wait: float = 0.0) -> dict[tuple[str, str, str], int]:
    """Filled by a study: (at, layer, measure) -> thread; with `wait`, the layers of a moment wait for each other."""
    found: dict[tuple[str, str, str], int] = {}
    both = Barrier(2)

    def recorded(m: Any, rep: Representation, *, seed: int, at: str) -> list[Row]:
        if wait and m.name == "stable_rank":
            both.wait(wait)
        found[at, rep.layer, m.name] = get_ident()
        return real(m, rep, seed=seed, at=at)

    real = tasks.measure_layers
    monkeypatch.setattr(tasks, "measure_layers", recorded)
    return found


def test_numbers_are_those_of_one_layer_after_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(study(resume=tmp_path / str(threads)))
    one, two = (made.table.drop(columns="seconds") for made in found)
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert found[0].arrays.keys() == found[1].arrays.keys()
    for name, array in found[0].arrays.items():
        assert (array == found[1].arrays[name]).all()
    again = study(resume=tmp_path / "2")  # whole, from what two threads have put
    pd.testing.assert_frame_equal(again.table, found[1].table, check_exact=True)


@pytest.mark.usefixtures("two_threads")
def test_both_layers_are_at_work_together_and_each_stays_on_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    found = threads_of(monkeypatch, wait=20)
    study(["effective_rank", "nc1", "stable_rank"])
    for at in ("init", "trained", "5"):
        first, second = ({thread for (a, layer, _), thread in found.items() if (a, layer) == (at, k)} for k in "13")
        assert len(first) == len(second) == 1
        assert not first & second
        assert get_ident() not in first | second


@pytest.mark.usefixtures("two_threads")
def test_the_probe_measures_of_users_and_large_layers_have_the_process_to_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))

    @measure(source="a test")
    def own_size(rep: Representation) -> Estimate:
        """Size of the first feature."""
        return Estimate(float(rep.x[:, 0].norm()))

    found = threads_of(monkeypatch)
    study(["stable_rank", "linear_probe_accuracy", "own_size"])
    beside = {name for (_, _, name), thread in found.items() if thread != get_ident()}
    assert beside == {"stable_rank"}
    monkeypatch.setattr(tasks, "SMALL", 1)
    found.clear()
    study(["stable_rank"])
    assert set(found.values()) == {get_ident()}


@pytest.mark.usefixtures("two_threads")
def test_an_interrupted_study_stops_in_all_layers_and_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = study()
    calls: list[tuple[str, str]] = []
    both = Barrier(2)

    def interrupted(m: Any, rep: Representation, *, seed: int, at: str) -> list[Row]:
        first = not any(layer == rep.layer for layer, _ in calls)
        calls.append((rep.layer, m.name))
        if first:
            both.wait(20)
        elif rep.layer == "1":
            raise KeyboardInterrupt
        while not first and not given_up():
            sleep(0.001)
        return real(m, rep, seed=seed, at=at)

    real = tasks.measure_layers
    monkeypatch.setattr(tasks, "measure_layers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(resume=tmp_path)
    monkeypatch.setattr(tasks, "measure_layers", real)
    assert sorted(calls) in (
        [("1", MEASURES[0]), ("1", MEASURES[1]), ("3", MEASURES[0])],
        [("1", MEASURES[0]), ("1", MEASURES[1]), ("3", MEASURES[0]), ("3", MEASURES[1])],
    )
    again = study(resume=tmp_path)
    pd.testing.assert_frame_equal(again.table.drop(columns="seconds"), whole.table.drop(columns="seconds"))


@pytest.mark.usefixtures("two_threads")
def test_layers_side_by_side_are_no_more_than_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "free_bytes", lambda: 0)
    found = threads_of(monkeypatch)
    study(["stable_rank"])
    assert set(found.values()) == {get_ident()}
