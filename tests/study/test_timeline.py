"""The verdict over time in a study: from three known steps on, and otherwise why not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.location.options import LocateOptions
from geomfeat.measures.series.time_regime import time_regime
from geomfeat.study import Study, analyze, tasks
from geomfeat.study.timeline import known_steps
from geomfeat.types import Snapshot
from tests.location.runs import LAZY_GAMMA, RICH_GAMMA, at_gamma, digits_series, parts
from tests.option_groups import grouped
from tests.study.small import model_at


def study(gamma: float = RICH_GAMMA, **options: Any) -> Study:
    """The run of `at_gamma` as a study of the verdict over time; its last snapshot is the trained network."""
    train, test = parts()
    run = at_gamma(gamma)
    last = max(run.snapshots)
    given: dict[str, Any] = {
        "model": run.at(last), "inputs": train[0], "labels": train[1], "initial": run.at(0),
        "checkpoints": {step: net for step, net in run.snapshots.items() if 0 < step < last},
        "measures": ["time_regime"], "location": False, "umap": False, "progress": False,
        "evaluate": {"train": train, "test": test},
    } | options  # fmt: skip
    return analyze(**grouped(analyze, given))


def numbers(made: Study) -> pd.DataFrame:
    return made.table[made.table["measure"] == "time_regime"].set_index("quantity")


def test_rows_are_those_of_the_diagnostic_itself() -> None:
    rows, expected = numbers(study()), time_regime(digits_series(RICH_GAMMA, loss=None))
    assert set(rows["at"]) == {"init->trained"}
    assert set(rows["layer"]) == {""}
    assert list(rows.index) == list(time_regime.quantities)
    for name, estimate in expected.items():
        assert (rows.loc[name, "ok"], rows.loc[name, "note"]) == (estimate.ok, estimate.note)
        assert not estimate.ok or rows.loc[name, "value"] == estimate.value
    assert rows.loc["late_share", "note"].startswith("rich from the start")


def test_a_lazy_run_is_read_as_the_change_of_its_outputs_also_where_the_scale_is_not_known() -> None:
    known = numbers(study(LAZY_GAMMA))
    bare = at_gamma(LAZY_GAMMA).model
    unknown = numbers(study(LAZY_GAMMA, model=Snapshot(bare, at=300), initial=at_gamma(LAZY_GAMMA).snapshots[0]))
    assert "over gamma = 0.02" in known.loc["fit_time", "note"]
    assert "over gamma = 1" in unknown.loc["fit_time", "note"]
    for rows in (known, unknown):
        assert rows.loc["furthest_turn", "note"].startswith("lazy throughout")
    assert unknown.loc["fit_time", "value"] == pytest.approx(known.loc["fit_time", "value"], rel=1e-9)


def test_the_loss_of_the_location_times_the_alignment() -> None:
    made = study(location=LocateOptions(loss="mse", n_bootstrap=2, n_probes=24))
    expected = time_regime(digits_series(RICH_GAMMA))["silent_log_ratio"]
    assert numbers(made).loc["silent_log_ratio", "value"] == expected.value


def test_by_default_it_runs_where_it_can() -> None:
    made = study(measures=None, checkpoints={10: at_gamma(RICH_GAMMA).snapshots[10]}, layers=["fc1"])
    assert len(numbers(made)) == len(time_regime.quantities)
    assert "3 snapshots to step 300" in numbers(made).loc["furthest_turn", "note"]
    assert "time_regime" not in made.settings["left_out"]


@pytest.mark.parametrize("options", [{"checkpoints": None}, {"model": at_gamma(RICH_GAMMA).model,
                                      "checkpoints": {5: at_gamma(RICH_GAMMA).model}}])  # fmt: skip
def test_two_steps_are_not_judged_and_the_reason_is_reported(options: dict[str, Any]) -> None:
    rows = numbers(study(**options))
    assert not rows["ok"].any()
    assert set(rows.index) == set(time_regime.quantities)
    assert rows["note"].str.contains("three or more snapshots whose steps are known").all()
    left = study(measures=None, layers=["fc1"], **options)
    assert numbers(left).empty
    assert "--checkpoints FOLDER" in left.settings["left_out"]["time_regime"]


def test_without_labels_it_is_left_out() -> None:
    made = study(labels=None, measures=None, layers=["fc1"], checkpoints={10: at_gamma(RICH_GAMMA).snapshots[10]})
    assert "pass labels=" in made.settings["left_out"]["time_regime"]


def test_the_trained_network_counts_where_its_step_is_known() -> None:
    run = at_gamma(RICH_GAMMA)
    rows = numbers(study(model=run.model))
    last = max(step for step in run.snapshots if step < 300)
    assert set(rows["at"]) == {f"init->{last}"}
    assert f"to step {last};" in rows.loc["furthest_turn", "note"]


def test_without_a_test_part_the_training_side_is_judged() -> None:
    rows, whole = numbers(study(evaluate=None)), numbers(study())
    assert "no test samples" in rows.loc["test_time", "note"]
    assert rows.loc["late_share", "value"] == whole.loc["late_share", "value"]


def test_a_test_part_of_another_length_is_refused() -> None:
    train, test = parts()
    with pytest.raises(BadInput, match="'test'"):
        study(evaluate={"train": train, "test": (test[0], test[1][:7])})


def test_a_checkpoint_that_overflows_is_judged_up_to_there() -> None:
    run = at_gamma(RICH_GAMMA)
    huge = copy.deepcopy(run.snapshots[300])
    with torch.no_grad():
        for p in huge.parameters():
            p.fill_(1e200)
    rows = numbers(study(checkpoints={**{s: m for s, m in run.snapshots.items() if 0 < s < 300}, 400: huge}))
    assert "not finite from step 400 on" in rows.loc["late_share", "note"]


def test_parts_are_kept_and_depend_on_what_decides_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = parts()
    options: dict[str, Any] = {"location": LocateOptions(loss="mse", n_bootstrap=2, n_probes=24), "resume": tmp_path}
    whole, calls = study(**options), []
    original = tasks.measure_network
    monkeypatch.setattr(tasks, "measure_network", lambda *a, **k: calls.append(1) or original(*a, **k))
    assert numbers(study(**options))["value"].tolist() == numbers(whole)["value"].tolist()
    assert not calls, "a finished part is not computed again"
    few = study(**options, evaluate={"train": train, "test": (test[0][:50], test[1][:50])})
    assert len(calls) == 1, "another test part is another number"
    assert numbers(few).loc["test_time", "value"] != numbers(whole).loc["test_time", "value"]
    study(**{**options, "location": LocateOptions(loss="cross-entropy", n_bootstrap=2, n_probes=24)})
    assert len(calls) == 2, "another loss is another number"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((Snapshot(model_at(2), 90), model_at(0), {30: 0, "7": 0, "best": 0}),
         {"init": 0, "7": 7, "30": 30, "trained": 90}),
        ((model_at(2), None, {30: 0, 7: 0}), {"7": 7, "30": 30}),
        ((Snapshot(model_at(2), 30), model_at(0), {30: 0}), {"init": 0, "30": 30}),
        ((Snapshot(model_at(2), 20), Snapshot(model_at(0), 10), {30: 0}), {"init": 10, "trained": 20, "30": 30}),
        ((model_at(2), model_at(0), None), {"init": 0}),
    ],
)  # fmt: skip
def test_steps_are_those_that_are_known_in_order_and_once(given: tuple[Any, ...], expected: dict[str, int]) -> None:
    found = known_steps(*given)
    assert list(found.items()) == list(expected.items())
