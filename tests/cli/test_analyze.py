"""`geomfeat analyze` on files: what it writes, that it resumes, that bad input is reported and writes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result

from geomfeat.cli._request import dated
from geomfeat.location.reference_ladder import Ladder
from geomfeat.models.weights.checkpoints import save_weights
from geomfeat.registry import Measure
from geomfeat.study import Study, tasks
from tests.cli.conftest import PROBES, N
from tests.study.small import digits, model_at

Run = Callable[..., Result]
WRITTEN = {"arrays.npz", "location.json", "parts", "report.html", "results.parquet", "settings.json"}


def assert_refused(result: Result, *words: str) -> None:
    """Exit code 2, one line on stderr with these words, and no output."""
    assert result.exit_code == 2, result.output
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("geomfeat: ")
    assert all(word in line for word in words), line
    assert not Path("out").exists(), "nothing may be written"


def test_it_writes_the_page_the_table_the_location_the_arrays_and_the_settings(files: Path, analyze: Run) -> None:
    result = analyze("--checkpoints", "steps", "--name", "small")
    assert result.exit_code == 0, result.stderr
    assert {p.name for p in Path("out").iterdir()} == WRITTEN
    study = Study.load("out")
    assert study.name == "small"
    assert study.table["ok"].all()
    assert set(study.table["at"]) == {"init", "20", "trained", "init->trained"}
    assert json.loads(Path("out/location.json").read_text())["tier"] == "initial"
    assert study.settings["accuracy"] == {"data": pytest.approx(0.95, abs=0.06)}
    assert study.settings["dataset"]["name"] == "digits"
    assert "small" in result.stdout
    assert "page: out/report.html" in result.stdout
    html = Path("out/report.html").read_text(encoding="utf-8")
    assert "<html" in html
    assert "stable" in html.lower()


def test_checkpoints_are_judged_over_time_once_three_steps_are_known(files: Path, analyze: Run) -> None:
    words = ["--checkpoints", "steps", "--measures", "time_regime", "--measures", "stable_rank"]
    assert analyze(*words, out="two").exit_code == 0
    rows = Study.load("two").table.query("measure == 'time_regime'")
    assert not rows["ok"].any()
    assert rows["note"].str.contains("three or more snapshots whose steps are known").all()
    shutil.copy("final.safetensors", "steps/step_60.safetensors")
    assert analyze(*words, out="three").exit_code == 0
    rows = Study.load("three").table.query("measure == 'time_regime'").set_index("quantity")
    assert set(rows["at"]) == {"init->60"}
    assert "3 snapshots to step 60" in rows.loc["furthest_turn", "note"]
    assert "34 runs" in Path("three/report.html").read_text(encoding="utf-8")


def test_the_console_script_does_the_same_and_keeps_stdout_clean(files: Path) -> None:
    words = ["analyze", "--model", "net.py:make", "--trained", "final.safetensors", "--initial", "init.safetensors",
             "--data", "npz:digits.npz", "--out", "out", "--measures", "nc1", "--umap-layer", "none",
             "--probes", "8"]  # fmt: skip
    script = Path(sys.executable).with_name("geomfeat")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([script, *words], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "measure: 100%" in done.stderr, "progress bars go to stderr"
    assert "%|" not in done.stdout
    assert {p.name for p in Path("out").iterdir()} == WRITTEN


def test_without_initial_weights_the_factory_draws_fresh_ones(files: Path, analyze: Run) -> None:
    result = analyze(initial=False)
    assert result.exit_code == 0, result.stderr
    assert json.loads(Path("out/location.json").read_text())["tier"] == "reinitialised"


def test_a_saved_ladder_gives_the_equivalent_gamma(files: Path, analyze: Run) -> None:
    rungs = pd.DataFrame({"gamma": [0.1, 1.0, 10.0], "richness": [-1.0, 0.0, 1.0], "converged": True})
    Ladder(rungs, 0.05, ("1", "3"), PROBES).save("ladder.json")
    result = analyze("--ladder", "ladder.json")
    assert result.exit_code == 0, result.stderr
    where = Study.load("out").location
    assert where is not None
    assert where.equivalent_gamma is not None
    assert np.log10(where.equivalent_gamma) == pytest.approx(where.richness, abs=0.01)
    Path("ladder.json").write_text(Path("ladder.json").read_text().replace("10.0", "12.0"))
    assert "first ladder:" in analyze("--ladder", "ladder.json").stderr


def test_accuracy_is_reported_by_part_where_there_is_a_test_part(files: Path, analyze: Run) -> None:
    x, y = digits(200)
    np.savez("split.npz", x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
    assert analyze("--n", 20, data="npz:split.npz").exit_code == 0
    study = Study.load("out")
    assert set(study.settings["accuracy"]) == {"train", "test"}
    expected = float((model_at(2)(x[150:]).argmax(1) == y[150:]).double().mean())
    assert study.settings["accuracy"]["test"] == expected
    assert study.settings["n"] == 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the folder of a finished `analyze()` is, once a test has needed one."""
    return tmp_path_factory.mktemp("made") / "out"


@pytest.fixture
def finished(files: Path, analyze: Run, made: Path) -> None:
    """`out`, the folder of a finished `analyze()`: computed once for all tests, each of which has a copy."""
    if made.exists():
        shutil.copytree(made, "out")
        return
    assert analyze().exit_code == 0
    shutil.copytree("out", made)


def test_the_same_request_is_not_computed_again_and_a_lost_page_is_made_again(finished: None, analyze: Run) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in Path("out").iterdir() if p.is_file()}
    Path("out/report.html").unlink()
    again = analyze()
    assert again.exit_code == 0
    assert "nothing was computed" in again.stdout
    after = {p.name: p.stat().st_mtime_ns for p in Path("out").iterdir() if p.is_file()}
    assert {k for k in before if after[k] != before[k]} == {"report.html"}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The measures that were run, one entry a part."""
    calls, original = [], tasks.measure_layers

    def counting(measure: object, *args: object, **kwargs: object) -> object:
        calls.append(measure.name)  # type: ignore[attr-defined]
        return original(measure, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "measure_layers", counting)
    return calls


def test_force_computes_everything_again(files: Path, analyze: Run, computed: list[str]) -> None:
    assert analyze().exit_code == 0
    assert len(computed) == 8
    refused = analyze("--layers", "fc1", "--force")
    assert refused.exit_code == 2
    assert {p.name for p in Path("out").iterdir()} == WRITTEN, "what is refused costs nothing"
    assert "nothing was computed" in analyze().stdout
    forced = analyze("--force")
    assert forced.exit_code == 0
    assert "results exist" not in forced.stdout
    assert len(computed) == 16
    assert {p.name for p in Path("out").iterdir()} == WRITTEN


def test_a_forced_run_that_is_interrupted_goes_on_without_force(
    files: Path, analyze: Run, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert analyze().exit_code == 0
    counting = tasks.measure_layers

    def interrupted(*args: object, **kwargs: object) -> object:
        if len(computed) == 11:
            raise KeyboardInterrupt
        return counting(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "measure_layers", interrupted)
        stopped = analyze("--force")
    assert stopped.exit_code == 130
    assert "run the same command without --force to resume" in stopped.stderr
    assert analyze().exit_code == 0
    assert len(computed) == 16
    assert {p.name for p in Path("out").iterdir()} == WRITTEN


def test_numbers_that_failed_are_tried_again_and_only_they(
    files: Path, analyze: Run, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Measure.run

    def run(self: Measure, *args: object, **kwargs: object) -> object:
        if self.name == "nc1":
            raise RuntimeError("a bug that is mended later")
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Measure, "run", run)
        assert analyze().exit_code == 0
    assert not Study.load("out").table["ok"].all()
    computed.clear()
    again = analyze()
    assert again.exit_code == 0
    assert computed == ["nc1"] * 4
    assert Study.load("out").table["ok"].all()
    assert "nothing was computed" in analyze().stdout


def test_a_factory_in_a_package_that_changed_is_other_settings(files: Path, analyze: Run) -> None:
    Path("a_package_of_nets").mkdir()
    Path("a_package_of_nets/net.py").write_text(Path("net.py").read_text())
    words = ("--model", "a_package_of_nets.net:make")
    assert analyze(*words).exit_code == 0
    assert "nothing was computed" in analyze(*words).stdout
    Path("a_package_of_nets/net.py").write_text(Path("net.py").read_text().replace("ReLU", "Tanh"))
    assert "first model:" in analyze(*words).stderr


def test_a_data_folder_that_changed_is_other_settings(files: Path) -> None:
    Path("cifar").mkdir()
    Path("cifar/data_batch_1").write_bytes(b"one")
    request = {"trained": None, "initial": None, "ladder": None, "model": "net.py:make", "data": "cifar10:cifar"}
    first = dated(request, {})
    assert dated(request, {}) == first
    Path("cifar/data_batch_1").write_bytes(b"two")
    second = dated(request, {})
    assert second["data"] != first["data"]
    Path("cifar/data_batch_1").rename("cifar/data_batch_2")
    assert dated(request, {})["data"] != second["data"]
    assert second["model"] == first["model"]


def test_results_of_other_settings_are_not_overwritten_unasked(finished: None, analyze: Run) -> None:
    before = {p.name: p.read_bytes() for p in Path("out").iterdir() if p.is_file()}
    other = analyze("--seed", 1)
    assert other.exit_code == 2
    [line] = other.stderr.strip().splitlines()
    assert "'out' holds results with other settings, first seed: 0 there, 1 now" in line
    assert "--force" in line
    assert {p.name: p.read_bytes() for p in Path("out").iterdir() if p.is_file()} == before
    assert analyze("--seed", 1, "--force").exit_code == 0
    assert Study.load("out").settings["seed"] == 1


def test_weights_that_changed_under_the_same_name_are_other_settings(finished: None, analyze: Run) -> None:
    shutil.copy("steps/step_20.safetensors", "final.safetensors")
    assert "first trained:" in analyze().stderr


def test_an_interruption_keeps_what_is_finished_and_says_how_to_go_on(
    files: Path, analyze: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = [], tasks.measure_layers

    def interrupted(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "measure_layers", interrupted)
    result = analyze()
    assert result.exit_code == 130
    assert "interrupted. Finished parts are saved in out/parts: run the same command to resume" in result.stderr
    assert {p.name for p in Path("out").iterdir()} == {"parts"}
    assert analyze().exit_code == 0
    assert len(calls) == 4 + 8 - 3, "3 of the 8 parts (2 measures, 2 layers, before and after) were finished"
    assert {p.name for p in Path("out").iterdir()} == WRITTEN
    assert Study.load("out").table["ok"].all()


def test_a_damaged_result_is_reported_and_made_again_once_it_is_deleted(finished: None, analyze: Run) -> None:
    table = Path("out/results.parquet")
    table.write_bytes(table.read_bytes()[:-50])
    result = analyze()
    assert result.exit_code == 2
    assert "results.parquet is truncated or corrupt" in result.stderr
    table.unlink()
    assert analyze().exit_code == 0
    assert Study.load("out").table["ok"].all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "fc1"], ["no layer matches 'fc1'", "near:", "geomfeat extract --list"]),
        (["--measures", "stable_rnk"], ["no measure 'stable_rnk'", "near: stable_rank", "geomfeat measures"]),
        (["--model", "net.py:mke"], ["'net.py:mke'", "near: make"]),
        (["--model", "nowhere.py:make"], ["'nowhere.py'"]),
        (["--model", "net.py:broken"], ["net.py:broken", "RuntimeError: no such network"]),
        (["--model", "no_such_package:make"], ["no_such_package"]),
        (["--trained", "lost.safetensors"], ["--trained 'lost.safetensors'", "no such file"]),
        (["--initial", "lost.safetensors"], ["--initial 'lost.safetensors'"]),
        (["--checkpoints", "lost"], ["--checkpoints 'lost' is not a folder"]),
        (["--data", "digts"], ["'digts'", "near: digits"]),
        (["--data", "npz:lost.npz"], ["'lost.npz'"]),
        (["--n", "100000"], ["n=100000", "30 samples"]),
        (["--project", "much"], ["--project 'much'", "auto"]),
        (["--reduce", "meen"], ["'meen'", "near: mean"]),
        (["--umap-layer", "fc9"], ["umap='fc9'"]),
        (["--ladder", "many"], ["--ladder 'many'"]),
        (["--device", "cudda"], ["cudda"]),
        (["--loss", "huber"], ["loss='huber'", "mse"]),
        (["--probes", "31"], ["n_probes=31", "number of inputs, 30"]),
        (["--probes", "3"], ["n_probes=3 "]),
        (["--initial", "final.safetensors"], ["nothing was learned", "given as trained and initial"]),
        (["--ladder", "1"], ["ladder=1", "at least 2"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_bad_options_are_reported_in_one_line_and_nothing_is_written(
    files: Path, analyze: Run, words: list[str], message: list[str]
) -> None:
    assert_refused(analyze(*words), *message)


def test_weights_of_another_network_are_refused_with_the_keys(files: Path, analyze: Run) -> None:
    save_weights(torch.nn.Sequential(torch.nn.Linear(64, 10)), "final.safetensors")
    assert_refused(analyze(), "final.safetensors", "missing", "unexpected", "0.weight")


@pytest.mark.parametrize("name", ["final.safetensors", "init.safetensors", "digits.npz"])
def test_truncated_files_are_reported(files: Path, analyze: Run, name: str) -> None:
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: len(whole) // 2])
    assert_refused(analyze(), name, "truncated")


def test_weights_that_are_not_finite_are_reported(files: Path, analyze: Run) -> None:
    broken = model_at(2)
    with torch.no_grad():
        broken[1].weight[0, 0] = float("inf")  # type: ignore[index]
    save_weights(broken, "final.safetensors")
    assert_refused(analyze(), "1.weight", "NaN or infinite", "earlier")


def test_activations_that_overflow_name_the_layer(files: Path, analyze: Run) -> None:
    huge = model_at(2)
    with torch.no_grad():
        huge[3].weight.fill_(3e38)  # type: ignore[index]
    save_weights(huge, "final.safetensors")
    assert_refused(analyze(), "layer '3'", "infinite")


def test_inputs_that_are_not_finite_are_reported(files: Path, analyze: Run) -> None:
    x, y = digits(N)
    np.savez("digits.npz", x=np.where(x.numpy() > 1, np.nan, x.numpy()), y=y.numpy())
    assert_refused(analyze(), "NaN", "digits")


def test_labels_of_the_wrong_length_are_reported(files: Path, analyze: Run) -> None:
    x, y = digits(N)
    np.savez("digits.npz", x=x.numpy(), y=y.numpy()[:-1])
    assert_refused(analyze(), "labels", "29", "30 samples")


def test_missing_labels_are_failed_rows_of_measures_asked_for_by_name(files: Path, analyze: Run) -> None:
    np.savez("digits.npz", x=digits(N)[0].numpy())
    result = analyze("--measures", "nc1", "--measures", "stable_rank")
    assert result.exit_code == 0, result.stderr
    failed = Study.load("out").table.query("not ok")
    assert set(failed["measure"]) == {"nc1"}
    assert failed["note"].str.contains("labels").all()
    assert "nc1" in result.stdout, "the terminal tells of failures too"


def test_a_class_with_one_sample_is_no_crash(files: Path, analyze: Run) -> None:
    x, y = digits(N)
    y = torch.where(y == 9, 0, y)
    y[0] = 9
    np.savez("digits.npz", x=x.numpy(), y=y.numpy())
    words = [
        w
        for name in ("nc1", "capacity", "linear_probe_accuracy", "label_alignment_unbiased")
        for w in ("--measures", name)
    ]
    assert analyze(*words).exit_code == 0
    table = Study.load("out").table
    assert (table.loc[~table["ok"], "note"].str.len() > 10).all()
    assert not table["note"].str.contains("unexpected").any()


def test_an_output_that_is_a_file_is_refused(files: Path, analyze: Run) -> None:
    Path("taken").write_text("mine")
    result = analyze(out="taken")
    assert result.exit_code == 2
    assert "'taken' is a file: name a folder" in result.stderr
    assert Path("taken").read_text() == "mine"


def test_somebody_elses_results_are_not_overwritten(files: Path, analyze: Run) -> None:
    Path("mine").mkdir()
    pd.DataFrame({"a": [1]}).to_parquet("mine/results.parquet")
    result = analyze(out="mine")
    assert result.exit_code == 2
    assert "results.parquet without settings.json" in result.stderr
    assert pd.read_parquet("mine/results.parquet")["a"].tolist() == [1]


def test_debug_shows_the_traceback(files: Path, analyze: Run) -> None:
    assert "Traceback" not in analyze("--layers", "fc1").stderr
    result = analyze("--layers", "fc1", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "LayerNotFound" in result.stderr


@pytest.mark.parametrize("name", ["report.html", "results.parquet", "settings.json", "arrays.npz", "location.json"])
@pytest.mark.parametrize("force", [True, False])
def test_a_file_of_the_users_in_the_folder_is_never_replaced(
    files: Path, analyze: Run, computed: list[str], name: str, force: bool
) -> None:
    Path("out").mkdir()
    Path("out", name).write_text("mine")
    refused = analyze(*(["--force"] if force else []))
    assert refused.exit_code == 2
    [line] = refused.stderr.strip().splitlines()
    assert name in line
    assert computed == []
    assert [(p.name, p.read_text()) for p in Path("out").iterdir()] == [(name, "mine")]


@pytest.mark.parametrize("name", ["notes.txt", "deep/notes.txt"])
def test_force_leaves_a_folder_of_parts_with_a_file_of_the_users(
    finished: None, analyze: Run, computed: list[str], name: str
) -> None:
    mine = Path("out/parts") / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    computed.clear()
    before = {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()}
    refused = analyze("--force")
    assert refused.exit_code == 2
    assert "was not written by geomfeat" in refused.stderr
    assert computed == []
    assert {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()} == before
    assert "results exist" in analyze().stdout


@pytest.mark.parametrize("force", [True, False])
def test_a_file_of_the_users_in_the_place_of_a_part_is_never_replaced(
    finished: None, analyze: Run, computed: list[str], force: bool
) -> None:
    mine = next(Path("out/parts").glob("*.npz"))
    mine.write_bytes(b"mine")
    Path("out/arrays.npz").unlink()
    refused = analyze(*(["--force"] if force else []))
    assert refused.exit_code == 2
    assert f"{mine.name} was not written by geomfeat" in refused.stderr
    assert mine.read_bytes() == b"mine"


def test_an_edited_page_is_kept_and_does_not_stop_a_finished_run(finished: None, analyze: Run) -> None:
    page = Path("out/report.html")
    page.write_text(page.read_text(encoding="utf-8") + "<p>my notes</p>", encoding="utf-8")
    assert "results exist" in analyze().stdout
    refused = analyze("--force")
    assert refused.exit_code == 2
    assert "report.html was not written by geomfeat, or was changed" in refused.stderr
    assert page.read_text(encoding="utf-8").endswith("<p>my notes</p>")


def test_weights_as_other_programs_save_them(files: Path, analyze: Run) -> None:
    state = {f"model.{name}": value for name, value in model_at(2).state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, "last.ckpt")
    Path("folder").mkdir()
    torch.save(model_at(0).state_dict(), "folder/pytorch_model.bin")
    assert analyze("--trained", "last.ckpt", "--initial", "folder").exit_code == 0
    assert Study.load("out").settings["request"]["trained"] is not None


def test_a_dry_run_says_what_the_location_takes_and_writes_nothing(files: Path, analyze: Run) -> None:
    result = analyze("--dry-run")
    assert result.exit_code == 0, result.stderr
    assert f"{PROBES} probes, 10 outputs, 20 resamples; by formed kernel" in result.stdout
    assert not Path("out").exists()


def test_a_budget_is_kept_or_refused(files: Path, analyze: Run) -> None:
    assert_refused(analyze("--budget", "soon"), "--budget 'soon'", "SECONDS,GIGABYTES")
    assert_refused(analyze("--budget", "-1"), "budget=(-1.0, None)", "positive")
