"""Sweeps on the serial engine: resume, damage, versions, failures, the table, and how the time is estimated."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from geomfeat.comparison.relations._relate import relate
from geomfeat.comparison.sweeps import _sweep as module, folder as run_folder, task
from geomfeat.comparison.sweeps._sweep import PLAN, RESULTS, SweepResult, found_in, planned, sweep
from geomfeat.comparison.sweeps.executors import base as engine
from geomfeat.comparison.sweeps.task import run_task
from geomfeat.comparison.sweeps.time_estimate import estimate
from geomfeat.errors import BadInput, OutputExists
from geomfeat.models import build
from geomfeat.models.weights.checkpoints import load_weights
from geomfeat.study.location_rows import WHOLE
from tests.comparison.sweeps_on_disk import Counted, left_over, numbers, tiny, weights

FOUR = tiny(sigma=[0.5, 1.0])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepResult]:
    """The sweep of `FOUR` as it was made, once, and its folder, which no test changes."""
    folder = tmp_path_factory.mktemp("four")
    return folder, sweep(FOUR, folder, progress=False)


@pytest.fixture
def four(made: tuple[Path, SweepResult], tmp_path: Path) -> SweepResult:
    """The sweep of `FOUR`, finished in a copy of its folder at `tmp_path`."""
    folder, found = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return found


def test_every_training_is_made_once_and_a_rerun_makes_none(tmp_path: Path, counted: Counted) -> None:
    found = sweep(FOUR, tmp_path, progress=False)
    assert sorted(counted) == sorted(found.plan)
    assert found.outcomes == {"matched": 4}
    again = sweep(FOUR, tmp_path, progress=False)
    assert len(counted) == 4
    pd.testing.assert_frame_equal(again.table, found.table)
    assert left_over(tmp_path) == []


def test_a_sweep_that_grows_makes_what_is_new_alone(tmp_path: Path, four: SweepResult, counted: Counted) -> None:
    grown = sweep(tiny(sigma=[0.5, 1.0, 2.0]), tmp_path, progress=False)
    assert (len(counted), len(grown.plan)) == (2, 6)


def test_numbers_and_weights_are_the_same_in_any_folder_and_order(
    tmp_path: Path, made: tuple[Path, SweepResult]
) -> None:
    folder, one = made
    two = sweep(tiny(sigma=[1.0, 0.5], seeds=[1, 0]), tmp_path, progress=False)
    pd.testing.assert_frame_equal(numbers(one.table), numbers(two.table))
    assert weights(folder) == weights(tmp_path)


def test_a_task_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    plan = planned(FOUR, tmp_path)
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    run_task(next(iter(plan.plan.values())).canonical(), str(tmp_path), plan.version)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


def test_the_table_has_the_documented_columns_and_rows(tmp_path: Path) -> None:
    asked = ["capacity", "cka_linear_unbiased"]
    config = tiny(seeds=1, eta=[0.05, 1e4], sigma_of={"fc1": 1.0}, gamma0=1.0, batch_size=[None, 25],
                  train={"n": 30},
                  measure={"n": 30, "measures": asked, "location": {"n_probes": 10, "n_bootstrap": 2}})  # fmt: skip
    table = sweep(config, tmp_path, progress=False).table
    assert list(table.columns) == [
        "run", "seed", "at", "data", "architecture", "width", "depth", "parameterization", "sigma", "eta", "gamma",
        "optimizer", "batch_size", "sigma.fc1", "gamma0", "momentum", "centered", "outcome", "layer", "layer_b",
        "measure", "quantity", "value", "stderr", "ok", "note", "n", "d", "dtype", "device", "seconds", "options",
        "version",
    ]  # fmt: skip
    assert str(table["batch_size"].dtype) == "Int64"
    assert set(table["measure"]) == {"training", "location", "capacity", "cka_linear_unbiased"}
    assert np.allclose(table["gamma"], np.sqrt(8))
    for _, own in table.groupby("run"):
        training = own[own["measure"] == "training"].set_index("quantity")
        assert list(training.index) == list(task.QUANTITIES)
        if own["outcome"].iloc[0] == "diverged":
            assert not own["ok"][own["measure"] != "training"].any()
            assert set(own["measure"]) == {"training", "location", "capacity", "cka_linear_unbiased"}
            assert own["note"].str.contains("diverged").all()
            assert training["value"]["converged"] == 0
        else:
            located = own[(own["measure"] == "location") & (own["layer"] == "")].set_index("quantity")
            assert set(located.index) == set(WHOLE)
            assert located["ok"].all()
    assert set(table["outcome"]) >= {"diverged"}


def test_steps_between_are_kept_and_measured_where_asked_for(tmp_path: Path) -> None:
    config = tiny(seeds=1, train={"snapshots": 2, "target_loss": None, "max_steps": 9}, measure={"snapshots": True})
    found = sweep(config, tmp_path, progress=False)
    assert set(found.table["at"]) == {"init", "1", "3", "trained"}
    (folder,) = (tmp_path / "runs").iterdir()
    kept = sorted(p.name for p in folder.glob("*.safetensors"))
    names = ("init", "step_0000001", "step_0000003", "trained")
    assert kept == [f"{name}.safetensors" for name in names]
    model = load_weights(build("mlp", hidden=(8, 8), seed=5), folder / "init.safetensors")
    assert torch.equal(model.fc1.weight, build("mlp", hidden=(8, 8), seed=0).fc1.weight)  # type: ignore[union-attr]


def test_a_training_is_judged_over_time_by_the_steps_between(tmp_path: Path) -> None:
    train = {"snapshots": 6, "target_loss": None, "max_steps": 60}
    config = tiny(seeds=1, train=train, measure={"snapshots": True, "measures": ["time_regime"]})
    rows = sweep(config, tmp_path, progress=False).table.query("measure == 'time_regime'").set_index("quantity")
    assert set(rows["at"]) == {"init->trained"}
    assert rows.loc["furthest_turn", "ok"]
    assert "8 snapshots to step 60; outputs less those of the start" in rows.loc["furthest_turn", "note"]
    assert "no test samples" not in " ".join(rows["note"])


def test_the_location_alone_and_nothing_at_all_can_be_measured(tmp_path: Path) -> None:
    alone = tiny(
        seeds=1, train={"n": 20}, measure={"n": 20, "measures": [], "location": {"n_probes": 10, "n_bootstrap": 2}}
    )
    assert set(sweep(alone, tmp_path / "a", progress=False).table["measure"]) == {"training", "location"}
    nothing = tiny(seeds=1, measure={"measures": []})
    assert set(sweep(nothing, tmp_path / "b", progress=False).table["measure"]) == {"training"}


def test_damaged_runs_are_left_out_counted_and_made_again(tmp_path: Path, four: SweepResult, counted: Counted) -> None:
    first, second, third, _ = four.plan
    path = tmp_path / "runs" / first / run_folder.TABLE
    path.write_bytes(path.read_bytes()[:-10])
    shutil.rmtree(tmp_path / "runs" / second)
    (tmp_path / "runs" / third / run_folder.MANIFEST).unlink()
    seen = SweepResult.load(tmp_path)
    assert set(seen.damaged) == {first, third}
    assert seen.outcomes == {"matched": 1, "missing": 3}
    missing = seen.table[seen.table["outcome"] == "missing"]
    assert not missing["ok"].any()
    assert missing["note"].str.contains("run the same sweep again").all()
    assert str(seen).startswith("4 trainings: 3 missing, 1 matched; 2 folders damaged and left out")
    counted.clear()
    again = sweep(FOUR, tmp_path, progress=False)
    assert sorted(counted) == sorted([first, second, third])
    pd.testing.assert_frame_equal(numbers(again.table), numbers(four.table))
    assert (again.damaged, left_over(tmp_path)) == ({}, [])


def test_runs_of_another_version_are_reported_and_made_again_only_when_asked(
    tmp_path: Path, four: SweepResult, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in (task, module):
        monkeypatch.setattr(where, "code_version", lambda: "9.9+other")
    with pytest.raises(OutputExists, match=r"holds 4 of these 4 runs .* \(4 by geomfeat 0\..*9.9\+other"):
        sweep(FOUR, tmp_path, progress=False)
    assert SweepResult.load(tmp_path).outcomes == {"matched": 4}  # the old ones can still be read
    counted.clear()
    found = sweep(FOUR, tmp_path, recompute=True, progress=False)
    assert (len(counted), found.version, found.outcomes) == (4, "9.9+other", {"matched": 4})


def test_a_worker_with_other_code_refuses_the_task(tmp_path: Path) -> None:
    run = next(iter(planned(FOUR, tmp_path).plan.values()))
    with pytest.raises(BadInput, match=r"this worker has geomfeat .* planned with 9\.9: install the same version"):
        run_task(run.canonical(), str(tmp_path), "9.9")
    assert list(tmp_path.iterdir()) == []


def test_a_bug_in_one_run_costs_that_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = task.train_run

    def breaking(run: Any, data: Any, *device: Any) -> Any:
        if (run.sigma, run.seed) == (0.5, 1):
            raise ZeroDivisionError("a bug")
        return train(run, data, *device)

    monkeypatch.setattr(task, "train_run", breaking)
    found = sweep(FOUR, tmp_path, progress=False)
    assert found.outcomes == {"matched": 3, "missing": 1}
    row = found.table[found.table["outcome"] == "missing"].iloc[0]
    assert (row["sigma"], row["seed"], row["note"]) == (0.5, 1, "ZeroDivisionError: a bug")
    assert SweepResult.load(tmp_path).errors == found.errors
    monkeypatch.setattr(task, "train_run", train)
    assert sweep(FOUR, tmp_path, progress=False).outcomes == {"matched": 4}


def test_a_run_that_another_holds_is_waited_for_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(FOUR, tmp_path)
    held = next(iter(plan.plan))
    order: list[str] = []
    with run_folder.claimed(tmp_path, held, wait=False):
        done = engine.serial(found_in(plan)[0], tmp_path, plan.version)
        order += [next(done).address for _ in range(3)]
        assert held not in order
    order += [d.address for d in done]
    assert sorted(order) == sorted(plan.plan)
    assert order[-1] == held


@pytest.mark.parametrize("content", [None, "", "{}", '{"plan": [1]}'])
def test_a_folder_without_a_readable_plan_is_reported(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / PLAN).write_text(content)
    with pytest.raises(BadInput, match="holds no sweep" if content is None else "truncated or corrupt"):
        SweepResult.load(tmp_path)


def test_bad_calls_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"engine='dusk': near: dask"):
        sweep(FOUR, tmp_path / "a", engine="dusk")
    for address in ("tcp://", "tcp://host", "http://host:80"):
        with pytest.raises(
            BadInput, match=f"engine='{address}' is not the address of a scheduler: give scheme, host and port"
        ):
            sweep(FOUR, tmp_path / "a", engine=address)
    with pytest.raises(BadInput, match="workers=0: at least 1"):
        sweep(FOUR, tmp_path / "a", engine="dask", workers=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file: name a folder"):
        sweep(FOUR, tmp_path / "file")
    with pytest.raises(BadInput, match="no such sweep file"):
        sweep(tmp_path / "none.yaml", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(BadInput, match="file is a file: name the folder that geomfeat sweep wrote"):
        SweepResult.load(tmp_path / "file")


def test_damaged_folders_are_counted_when_they_are_made_again(
    tmp_path: Path, four: SweepResult, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    counted.clear()
    for table in sorted(tmp_path.glob("runs/*/table.arrow"))[:2]:
        table.write_bytes(table.read_bytes()[:100])
    assert sweep(FOUR, tmp_path, progress=False).outcomes == {"matched": 4}
    assert len(counted) == 2
    assert "2 damaged runs are left out, and repeated: " in caplog.text


def test_the_time_is_estimated_from_a_few_steps_and_then_from_what_was_made(tmp_path: Path) -> None:
    config = tiny(seeds=2, train={"target_loss": None, "max_steps": 200})
    before = estimate(*found_in(planned(config, tmp_path)))
    assert (before.trainings, before.finished, before.at_most) == (2, 0, True)
    assert not (tmp_path / "runs").exists()
    sweep(config, tmp_path, progress=False)
    after = estimate(*found_in(planned(config, tmp_path)))
    assert (after.trainings, after.finished, after.at_most) == (2, 2, False)
    manifests = [json.loads(p.read_text()) for p in tmp_path.glob("runs/*/run.json")]
    assert after.seconds == pytest.approx(np.mean([m["seconds"] for m in manifests]))
    assert before.seconds < 100 * after.seconds


def test_the_progress_bar_counts_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaking(run: Any, data: Any, *_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    sweep(tiny(), tmp_path, progress=False)
    monkeypatch.setattr(task, "train_run", breaking)
    sweep(tiny(sigma=[1.0, 2.0]), tmp_path)
    output = capsys.readouterr().err
    assert "4/4" in output
    assert "failed=2" in output


def test_the_results_file_is_the_table(made: tuple[Path, SweepResult]) -> None:
    folder, found = made
    pd.testing.assert_frame_equal(pd.read_parquet(folder / RESULTS), found.table)
    assert dataclasses.is_dataclass(found)


def test_an_uncentred_sweep_is_not_held_against_the_theory_of_centred_ones(tmp_path: Path) -> None:
    location = {"n_probes": 10, "n_bootstrap": 2}
    config = tiny(seeds=2, sigma=[0.5, 1.0], train={"n": 10}, measure={"n": 10, "measures": [], "location": location})
    theory = {}
    for centered in (True, False):
        own = {**config, "train": {**config["train"], "centered": centered}}
        table = sweep(own, tmp_path / str(centered), progress=False).table
        slopes = relate(table).slopes
        theory[centered] = slopes[(slopes["quantity"] == "richness") & (slopes["layer"] == "")]["theory"].tolist()
    assert theory[True] == [-3.0]
    assert np.isnan(theory[False]).all()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    "changes", [{"sigma": 0.5}, {"seeds": 1, "sigma": [0.5, 1.0]}, {"sigma": [0.5, 2.0]}, {"width": 16},
                {"sigma": [0.5, 1.0], "measure": {"measures": ["effective_rank"]}}],
    ids=str,
)  # fmt: skip
def test_a_config_that_lacks_trainings_of_the_folder_is_refused_and_nothing_is_lost(
    tmp_path: Path, four: SweepResult, counted: Counted, changes: dict[str, Any]
) -> None:
    counted.clear()
    before = files_of(tmp_path)
    with pytest.raises(OutputExists, match=r"sweep\.json and results\.parquet hold a sweep of 4 trainings, [24] of"):
        sweep(tiny(**changes), tmp_path, progress=False)
    assert (files_of(tmp_path), counted) == (before, [])
    assert sweep(tiny(sigma=[1.0, 0.5]), tmp_path, progress=False).outcomes == {"matched": 4}


def test_a_run_folder_at_another_address_is_not_that_run(tmp_path: Path, four: SweepResult, counted: Counted) -> None:
    first, second, third, _ = four.plan
    runs = tmp_path / "runs"
    shutil.rmtree(runs / first)
    shutil.copytree(runs / second, runs / first)
    saved = json.loads((runs / third / run_folder.MANIFEST).read_text())
    (runs / third / run_folder.MANIFEST).write_text(json.dumps({**saved, "version": "9.9"}))
    seen = SweepResult.load(tmp_path)
    assert set(seen.damaged) == {first, third}
    assert "it was copied here, or its manifest was changed" in seen.damaged[first]
    counted.clear()
    again = sweep(FOUR, tmp_path, progress=False)
    assert sorted(counted) == sorted([first, third])
    pd.testing.assert_frame_equal(numbers(again.table), numbers(four.table))


def test_weights_that_were_changed_are_trained_again(tmp_path: Path, four: SweepResult, counted: Counted) -> None:
    path = tmp_path / "runs" / next(iter(four.plan)) / "trained.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    counted.clear()
    sweep(FOUR, tmp_path, progress=False)
    assert counted == [next(iter(four.plan))]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", [PLAN, RESULTS])
def test_a_file_of_the_users_is_not_replaced_by_a_sweep(tmp_path: Path, counted: Counted, name: str) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(OutputExists, match=f"{name} was not written by geomfeat"):
        sweep(FOUR, tmp_path, progress=False)
    assert (files_of(tmp_path), counted) == ({name: b'{"mine": 1}'}, [])


def test_a_file_of_the_users_in_a_damaged_run_is_kept_and_costs_that_run_alone(
    tmp_path: Path, four: SweepResult, counted: Counted
) -> None:
    address = next(iter(four.plan))
    home = tmp_path / "runs" / address
    (home / "notes.txt").write_text("mine")
    assert sweep(FOUR, tmp_path, progress=False).outcomes == {"matched": 4}, "beside a whole run it does no harm"
    (home / run_folder.TABLE).unlink()
    counted.clear()
    again = sweep(FOUR, tmp_path, progress=False)
    assert counted == []
    assert again.outcomes == {"matched": 3, "missing": 1}
    assert "notes.txt was not written by geomfeat" in again.errors[address]
    assert (home / "notes.txt").read_text() == "mine"
    (home / "notes.txt").unlink()
    assert sweep(FOUR, tmp_path, progress=False).outcomes == {"matched": 4}


def test_a_run_without_the_columns_of_a_run_is_damaged(tmp_path: Path, four: SweepResult) -> None:
    home = tmp_path / "runs" / next(iter(four.plan))
    run_folder.write_table(home / run_folder.TABLE, pd.DataFrame({"other": [1]}))
    saved = json.loads((home / run_folder.MANIFEST).read_text())
    size, digest = (home / run_folder.TABLE).stat().st_size, run_folder.file_sha256(home / run_folder.TABLE)
    saved["files"][run_folder.TABLE] = [size, digest]
    (home / run_folder.MANIFEST).write_text(json.dumps(saved))
    assert "it has no column 'run'" in SweepResult.load(tmp_path).damaged[home.name]


@pytest.mark.parametrize(
    "change",
    [lambda raw: raw.update(plan={}), lambda raw: raw.update(version="9.9"), lambda raw: raw.update(errors=3),
     lambda raw: raw.update(plan={"x" * 20: next(iter(raw["plan"].values()))}), lambda raw: raw.update(plan=[1]),
     lambda raw: raw.pop("config"), lambda raw: next(iter(raw["plan"].values())).update(width=9)],
)  # fmt: skip
def test_a_plan_that_was_changed_is_reported_and_made_again(tmp_path: Path, four: SweepResult, change: Any) -> None:
    saved = json.loads((tmp_path / PLAN).read_text())
    change(saved)
    (tmp_path / PLAN).write_text(json.dumps(saved))
    with pytest.raises(BadInput, match=r"sweep\.json is truncated or corrupt"):
        SweepResult.load(tmp_path)
    assert sweep(FOUR, tmp_path, progress=False).outcomes == {"matched": 4}


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(BadInput, match="out='' names nothing"):
        sweep(FOUR, "")
