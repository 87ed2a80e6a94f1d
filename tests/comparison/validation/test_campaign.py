"""The judgement of the location: planted ladders give back what was planted, and a real family passes through all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from geomfeat.cli import app
from geomfeat.comparison.sweeps.config import parse_config
from geomfeat.comparison.sweeps.grid import RunConfig
from geomfeat.comparison.validation import campaign as validation, remeasure
from geomfeat.comparison.validation.campaign import Validation, judge, validate
from geomfeat.comparison.validation.families import FAMILIES, LAWS, RUNGS, LadderFamily
from geomfeat.comparison.validation.files import load_validation, save_validation
from geomfeat.comparison.validation.onset_of_richness import best_summary, onsets_of, spreads_of, summed_up
from geomfeat.data._load_data import load_data
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput, OutputExists
from geomfeat.report.pages.validation import checks_of, write_validation


def planted(
    slope: float = 1.0, scatter: float = 0.0, half: float = 0.1, seed: int = 0, family: str = "f", ripple: float = 0.0
) -> list[Any]:
    """Runs of a family: R of known slope and scatter, intervals of known half-width, excess that sets in at R = 0."""
    draw = np.random.default_rng(seed)
    rows = []
    for k in range(3):
        for gamma in RUNGS:
            r = 0.3 * k + slope * math.log10(gamma)
            seen = r + scatter * draw.normal()
            layers = {"a": [r - 0.5, r - 0.5 - 0.2 * max(r, 0)], "b": [r + 0.5, r + 0.5 - 0.2 * max(r, 0)]}
            rows.append({
                "family": family, "gamma": gamma, "seed": k, "outcome": "matched", "R": seen, "low": seen - half,
                "high": seen + half, "R_0.05": r - 0.1, "R_0.01": r, "R_0.002": r + 0.02,
                "R_0.05_quarter": r - 0.2, "R_0.01_quarter": r - 0.1, "R_0.002_quarter": r + ripple * math.sin(50 * r),
                "M": r + 0.03, "layers": layers, "weights": layers,
                "kernel": {"": [r, r - 0.05 * max(r, 0)]}, "tripled": math.log10(3), "reinit_R": r + 0.05,
                "reinit_low": r - 0.1, "reinit_high": r + 0.1, "floor": -1.0, "at_most": r < -0.7,
            })  # fmt: skip
    return rows


@pytest.mark.parametrize("slope", [1.0, 0.8])
def test_a_planted_ladder_is_found(slope: float) -> None:
    found = judge(LadderFamily("f"), planted(slope))
    assert found["slope"] == pytest.approx(slope)
    assert found["lazy_excess_0.01"] == pytest.approx(0.03)
    assert found["lazy_excess_0.05"] == pytest.approx(0.13)
    assert found["reinit_error"] == pytest.approx(0.05)
    assert found["tripled"] == pytest.approx(0.4771, abs=1e-4)
    assert (found["scatter"] < 1e-9) == (slope == 1.0)


def test_scatter_and_coverage_are_those_that_were_planted() -> None:
    runs = [row for seed in range(40) for row in planted(scatter=0.1, half=0.1645, seed=seed)]
    found = judge(LadderFamily("f"), runs)
    assert found["scatter"] == pytest.approx(0.1, rel=0.1)
    assert found["coverage"] == pytest.approx(0.9, abs=0.03)
    assert abs(found["slope"] - 1) < 4 * found["slope_stderr"]
    narrow = judge(LadderFamily("f"), [{**row, "low": row["R"] - 0.01, "high": row["R"] + 0.01} for row in runs])
    assert narrow["coverage"] < 0.2


def test_what_a_stopping_share_adds_at_the_rich_end_is_found() -> None:
    found = judge(LadderFamily("f"), planted(ripple=0.2))
    assert found["lazy_excess_0.05_quarter"] == pytest.approx(0.23)
    assert found["rich_scatter_0.05"] == pytest.approx(0.0, abs=1e-9)
    assert found["rich_scatter_0.002_quarter"] > 0.05


def test_a_training_that_missed_the_loss_is_not_judged() -> None:
    rows = planted()
    far = {**rows[0], "R": 5.0, "outcome": "unmatched"}
    found = judge(LadderFamily("f"), [far, *rows[1:]])
    assert (found["runs"], found["located"]) == (24, 23)
    assert found["slope"] == pytest.approx(1.0)


def test_runs_without_a_location_are_counted_and_left_out() -> None:
    rows = planted()
    lost = {"family": "f", "gamma": 1e3, "seed": 0, "outcome": "diverged", "R": None, "failed": "diverged"}
    found = judge(LadderFamily("f"), [*rows, lost])
    assert (found["runs"], found["located"]) == (25, 24)
    assert found["slope"] == pytest.approx(1.0)
    assert judge(LadderFamily("f"), [lost] * 5)["located"] == 0


def test_the_onset_is_where_excess_passes_a_tenth() -> None:
    onsets = onsets_of(planted())
    # Excess is -.2 R above R = 0, so -.1 at R = .5, up to the distance of the rungs.
    assert onsets["mean"][0] == pytest.approx(0.5, abs=0.06)
    assert onsets["last"][0] == pytest.approx(1.0, abs=0.06)
    assert onsets["first"][0] == pytest.approx(0.0, abs=0.06)
    assert onsets["mean over layers of weights"][0] == pytest.approx(0.5, abs=0.06)
    assert onsets["tangent kernel"][0] == pytest.approx(2.0, abs=0.2)


def test_layers_are_summed_up() -> None:
    layers = [(0.0, 0.0), (1.0, 2.0), (-math.inf, 0.0)]
    assert summed_up(layers, "mean") == (0.5, 1.0)
    assert summed_up(layers, "largest") == (1.0, 2.0)
    r, m = summed_up(layers, "demand-weighted")
    assert r == pytest.approx(0.5 * math.log10((1 + 100) / 2))
    assert m == pytest.approx(0.5 * math.log10((1 + 10_000) / 2))
    assert all(map(math.isnan, summed_up([(-math.inf, 0.0)], "mean")))


def test_the_summary_is_chosen_on_one_half_and_judged_on_the_other() -> None:
    onsets = onsets_of([row for k in range(8) for row in planted(family=f"f{k}")])
    onsets["mean"] = [0.5, 9.0] * 4
    onsets["last"] = [1.0, 1.0, 2.0, 1.5] * 2
    onsets[["first", "largest", "demand-weighted", "mean over layers of weights"]] = math.nan
    onsets.loc[:2, "tangent kernel"] = math.nan  # as alike where it is seen, but it misses too many families
    assert best_summary(onsets) == ("mean", 0.0, 0.0)
    spreads = {row["summary"]: row for row in spreads_of(onsets)}
    assert spreads["mean"]["families"] == 8
    assert spreads["tangent kernel"]["families"] == 5
    assert (spreads["mean"]["spread_chosen"], spreads["last"]["spread_judged"]) == (
        0.0,
        pytest.approx(1 / math.sqrt(12)),
    )


def test_every_family_and_law_is_a_valid_sweep_of_its_own_name() -> None:
    assert len(FAMILIES) >= 30
    assert len({validation.slug(f.name) for f in FAMILIES}) == len(FAMILIES)
    configs = [parse_config(f.sweep()) for f in FAMILIES] + [parse_config(law.sweep()) for law in LAWS]
    assert all(config.seeds == 2 for config in configs)
    assert math.log10(max(RUNGS) / min(RUNGS)) >= 4
    assert len(RUNGS) >= 8


@pytest.mark.parametrize("name", ["parity", "gaussian_mixture", "teacher"])
def test_made_up_data_are_what_they_say(name: str) -> None:
    data = load_data(f"geomfeat.data.synthetic:{name}")
    assert data.n == 400
    if name == "teacher":
        assert data.labels is None
        assert data.goal is data.targets
        assert data.testing().targets is data.test_targets
        assert data.subsample(30).targets.shape == (30, 3)
        assert float(data.targets.mean(0).abs().max()) < 1e-6
        assert float(data.targets.square().mean()) == pytest.approx(1.0)
    else:
        classes = len(data.classes)
        assert data.labels.unique().tolist() == list(range(classes))
        # No linear map tells the classes apart: a least-squares fit leaves most of them wrong.
        design = torch.cat([data.inputs, torch.ones(data.n, 1)], 1).double()
        onehot = torch.nn.functional.one_hot(data.labels).double()
        fit = design @ torch.linalg.lstsq(design, onehot).solution
        assert float((fit.argmax(1) == data.labels).double().mean()) < 0.7


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Validation]:
    out = tmp_path_factory.mktemp("validation")
    return out, validate(out, only="mlp regression", rungs=(0.1, 1.0, 10.0), seeds=1, laws=False, progress=False)


def test_a_real_family_has_unit_slope_and_lazy_movement(real: tuple[Path, Validation]) -> None:
    (family,) = real[1].families.to_dict("records")
    assert family["located"] == 3
    assert family["slope"] == pytest.approx(1.0, abs=0.05)
    assert family["scatter"] < 0.06
    assert abs(family["lazy_excess_0.002"]) < 0.15
    assert family["tripled"] == pytest.approx(math.log10(3), abs=1e-6)


def test_kernel_demand_has_a_slope_too(real: tuple[Path, Validation]) -> None:
    (family,) = real[1].families.to_dict("records")
    assert family["slope_kappa"] == pytest.approx(1.0, abs=0.15)
    assert family["scatter_kappa"] < 0.2
    assert real[1].runs["gap"].between(0, 2).all()


def test_what_is_there_is_not_made_again(real: tuple[Path, Validation], monkeypatch: pytest.MonkeyPatch) -> None:
    out, first = real
    monkeypatch.setattr("geomfeat.comparison.validation.remeasure._look", lambda *_: pytest.fail("looked again"))
    monkeypatch.setattr("geomfeat.comparison.sweeps.task.train_run", lambda *_: pytest.fail("trained again"))
    again = validate(out, only="mlp regression", rungs=(0.1, 1.0, 10.0), seeds=1, laws=False, progress=False)
    assert again.families.equals(first.families)


def test_a_truncated_look_is_taken_again(real: tuple[Path, Validation]) -> None:
    out, first = real
    path = sorted(out.glob("*/looks/*.json"))[0]
    path.write_text(path.read_text(encoding="utf-8")[:20], encoding="utf-8")
    again = validate(out, only="mlp regression", rungs=(0.1, 1.0, 10.0), seeds=1, laws=False, progress=False)
    assert again.families.equals(first.families)


def test_a_validation_survives_its_files(real: tuple[Path, Validation], tmp_path: Path) -> None:
    save_validation(real[1], tmp_path)
    again = load_validation(tmp_path)
    assert again.laws.empty
    for name in ("runs", "families", "onsets"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(real[1], name), check_dtype=False)
    (tmp_path / "laws.parquet").unlink()
    with pytest.raises(BadInput, match=r"lacks laws\.parquet"):
        load_validation(tmp_path)


@pytest.fixture
def looks(real: tuple[Path, Validation], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of the runs that are looked at: the first is, of others what `real` has seen of them is taken."""
    saved = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in real[0].glob("*/looks/*.json")}
    asked: list[str] = []

    whole = remeasure._look

    def look(home: Path, run: RunConfig, data: Dataset) -> dict[str, Any]:
        asked.append(home.name)
        if len(asked) == 1:
            return whole(home, run, data)
        return {name: value for name, value in saved[home.name].items() if name not in ("format", "address")}

    monkeypatch.setattr(remeasure, "_look", look)
    return asked


def test_a_look_that_was_copied_from_another_run_is_taken_again(
    real: tuple[Path, Validation], looks: list[str]
) -> None:
    out, first = real
    one, two, *_ = sorted(out.glob("*/looks/*.json"))
    two.write_bytes(one.read_bytes())
    again = validate(out, only="mlp regression", rungs=(0.1, 1.0, 10.0), seeds=1, laws=False, progress=False)
    assert again.families.equals(first.families)
    assert looks == [two.stem]


@pytest.mark.parametrize("name", ["runs", "families", "laws", "onsets"])
def test_a_table_of_the_users_or_of_another_kind_is_reported(
    real: tuple[Path, Validation], tmp_path: Path, name: str
) -> None:
    path = tmp_path / f"{name}.parquet"
    pd.DataFrame({"mine": [1]}).to_parquet(path)
    whole = path.read_bytes()
    with pytest.raises(OutputExists, match=rf"{name}\.parquet was not written by geomfeat"):
        save_validation(real[1], tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    save_validation(real[1], tmp_path)
    save_validation(real[1], tmp_path)
    for content, message in [(whole, "it lacks the columns"), (b"", "is truncated or corrupt"), (b"x" * 99, "corrupt")]:
        path.write_bytes(content)
        with pytest.raises(BadInput, match=rf"{name}\.parquet is truncated or corrupt.*{message}|{message}"):
            load_validation(tmp_path)


def test_a_family_without_its_data_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BadInput("fashion-mnist: no files")

    monkeypatch.setattr(validation, "load_data", refuse)
    with pytest.raises(BadInput, match=r"mlp fashion-mnist: fashion-mnist: no files"):
        validate(tmp_path, only="mlp fashion*", progress=False)
    monkeypatch.setattr(validation, "sweep", lambda *_, **__: None)
    monkeypatch.setattr(validation, "rows_of", lambda *_: planted())
    found = validate(tmp_path, only="cnn*", laws=False, progress=False)
    assert found.absent == {"cnn, fashion-mnist": "fashion-mnist: no files"}
    assert set(found.families["family"]) == {f.name for f in FAMILIES if f.name.startswith("cnn")} - set(found.absent)


def test_a_look_of_another_format_is_taken_again(
    real: tuple[Path, Validation], looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, first = real
    monkeypatch.setattr("geomfeat.comparison.validation.remeasure.FORMAT", -1)
    again = validate(out, only="mlp regression", rungs=(0.1, 1.0, 10.0), seeds=1, laws=False, progress=False)
    assert again.families.equals(first.families)
    paths = sorted(out.glob("*/looks/*.json"))
    assert sorted(looks) == [path.stem for path in paths]
    assert all(json.loads(path.read_text(encoding="utf-8"))["format"] == -1 for path in paths)


def test_the_page_tells_families_goals_and_misses(tmp_path: Path) -> None:
    fine = [row for name in ("a", "b", "c", "d") for row in planted(family=name)]
    judged = [judge(LadderFamily(name), [r for r in fine if r["family"] == name]) for name in ("a", "b", "c", "d")]
    judged[0]["slope"] = 1.2
    judged[1]["breaks"] = "It decays."
    laws = pd.DataFrame([{"law": "w", "axis": "width", "layer": "", "slope": -0.5, "stderr": 0.01, "theory": -0.5}])
    found = Validation(pd.DataFrame(fine), pd.DataFrame(judged), laws, onsets_of(fine))
    missed = {check.what for check in checks_of(found) if not check.ok}
    assert missed == {"slope on log10 γ: a", "coverage of 90 % intervals, mean"}  # planted intervals are too wide
    text = write_validation(found, tmp_path / "page.html", settings={}).read_text(encoding="utf-8")
    assert "It decays." in text
    assert "slope on log10 γ: a" in text


def test_a_campaign_without_a_location_is_reported_and_no_crash() -> None:
    lost = {"family": "f", "gamma": 1.0, "seed": 0, "outcome": "diverged", "R": None, "failed": "diverged"}
    empty = Validation(
        pd.DataFrame([lost]), pd.DataFrame([judge(LadderFamily("f"), [lost])]), pd.DataFrame(), onsets_of([lost])
    )
    summary = empty.summary()
    assert summary["trainings"] == 1
    assert math.isnan(summary["scatter, worst"])
    assert not any(check.ok for check in checks_of(empty))


def test_a_file_in_the_way_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file: name a folder"):
        validate(tmp_path / "file", only="mlp regression")


def test_an_unknown_family_is_reported_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"near: .*transformer"):
        validate(tmp_path, only="transfomer")
    result = CliRunner().invoke(app, ["validate", "--out", str(tmp_path), "--list"])
    assert {"residual, batch norm", "lambda-balanced"} <= set(result.output.splitlines())
