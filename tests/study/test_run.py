"""A study from end to end on a small network: the table, resuming, failures, and independence of order and choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from geomfeat.activations.options import ExtractOptions
from geomfeat.errors import BadInput, LayerNotFound
from geomfeat.location.options import LocateOptions
from geomfeat.location.reference_ladder import Ladder
from geomfeat.models.weights.checkpoints import load_object
from geomfeat.registry import available, get
from geomfeat.study import Study, analyze, measure_rows as measuring, tasks
from geomfeat.study.measure_selection import SCOPES
from geomfeat.study.table import RESULT
from geomfeat.types import Snapshot
from tests.option_groups import grouped
from tests.study.small import digits, make, model_at

FAST = LocateOptions(n_bootstrap=2, n_probes=24)
CHEAP = ["stable_rank", "label_alignment_unbiased", "cka_linear_unbiased", "representation_change", "weight_movement"]


def study(**options: Any) -> Study:
    x, y = digits()
    given = {"model": model_at(2), "inputs": x, "labels": y, "initial": model_at(0), "measures": CHEAP,
             "location": False, "umap": False, "progress": False}  # fmt: skip
    given |= options
    return analyze(**grouped(analyze, given))


def values(made: Study) -> dict[tuple[Any, ...], tuple[float, bool]]:
    keys = ["at", "layer", "layer_b", "measure", "quantity"]
    return {tuple(r[k] for k in keys): (r["value"], r["ok"]) for r in made.table.to_dict("records")}


def assert_same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a.drop(columns="seconds"), b.drop(columns="seconds"), check_exact=True)


@pytest.fixture(scope="module")
def whole() -> Study:
    """Everything there is, once."""
    return study(measures=None, location=FAST, umap=True, name="net", conditions={"lr": 0.3},
                 model=Snapshot(model_at(2), "trained", {"width": 16}))  # fmt: skip


def test_every_measure_is_in_the_table_and_none_failed(whole: Study) -> None:
    made = whole.table
    by_default = {m.name for m in available() if m.scope in SCOPES and m.by_default}
    over_time = {m.name for m in available(scope="series")}  # two moments have no course
    assert set(made["measure"]) == by_default - over_time | {"location"}
    assert made["ok"].all(), made.loc[~made["ok"], ["at", "layer", "measure", "note"]].to_string()
    assert list(made.columns) == ["run", "seed", "at", "width", "lr", *RESULT]
    assert set(made["run"]) == {"net"}
    assert set(made["at"]) == {"init", "trained", "init->trained"}
    assert not made.duplicated(["at", "layer", "layer_b", "measure", "quantity"]).any()
    assert all(isinstance(json.loads(text), dict) for text in made["options"])
    assert set(whole.settings["left_out"]) == {m.name for m in available() if not m.by_default} | over_time


def test_values_are_those_of_the_measures_themselves(whole: Study) -> None:
    x, y = digits()
    from geomfeat.activations import extract

    reps = {at: extract(model_at(i), x, layers=["1", "3"], labels=y, progress=False,
                        options=ExtractOptions(with_outputs=True))
            for i, at in ((0, "init"), (2, "trained"))}  # fmt: skip
    found = values(whole)
    for m in (m for m in available("layer") if m.by_default):
        seed = {"seed": 0} if m.stochastic else {}
        for at in reps:
            expected = m.run(reps[at]["3"], **seed)
            assert {q: found[at, "3", "", m.name, q][0] for q in m.quantities} == {
                q: e.value for q, e in expected.items()
            }
    change = get("representation_change")(reps["init"]["1"], reps["trained"]["1"])
    assert found["init->trained", "1", "1", "representation_change", "representation_change"][0] == change.value
    cka = get("cka_linear_unbiased")(reps["init"]["1"], reps["trained"]["3"])
    assert found["init->trained", "1", "3", "cka_linear_unbiased", "cka_linear_unbiased"][0] == pytest.approx(
        cka.value, rel=1e-12
    )


def test_arrays_hold_matrices_spectra_and_the_plane(whole: Study) -> None:
    assert set(whole.arrays) == {
        "cka/initial/initial", "cka/trained/trained", "cka/initial/trained", "spectrum/initial/1", "spectrum/initial/3",
        "spectrum/trained/1", "spectrum/trained/3", "umap/initial/3", "umap/trained/3", "umap/labels",
    }  # fmt: skip
    found = values(whole)
    matrix, within = whole.arrays["cka/initial/trained"], whole.arrays["cka/trained/trained"]
    for i, a in enumerate(whole.settings["layers"]):
        for j, b in enumerate(whole.settings["layers"]):
            key = ("init->trained", a, b, "cka_linear_unbiased", "cka_linear_unbiased")
            assert matrix[i, j] == found[key][0]
    np.testing.assert_array_equal(within, within.T)
    assert within.diagonal().tolist() == [1.0, 1.0]
    assert whole.arrays["umap/trained/3"].shape == (60, 2)
    np.testing.assert_array_equal(whole.arrays["umap/labels"], digits()[1].numpy())


def test_the_location_is_there_and_in_the_table(whole: Study) -> None:
    assert whole.location is not None
    assert whole.location.tier == "initial"
    assert values(whole)["init->trained", "", "", "location", "richness"] == (whole.location.richness, True)


def test_settings_say_what_made_it(whole: Study) -> None:
    said = whole.settings
    assert said["layers"] == ["1", "3"]
    assert said["conditions"] == {"width": 16, "lr": 0.3}
    assert (said["n"], said["seed"], said["labels"], said["initial"]) == (60, 0, True, True)
    assert said["accuracy"]["data"] > 0.5
    assert len(said["weights"]["trained"]) == 64
    assert {"version", "python", "torch", "numpy", "platform"} <= said.keys()


def test_a_study_survives_the_disk(whole: Study, tmp_path: Path) -> None:
    back = Study.load(whole.save(tmp_path))
    pd.testing.assert_frame_equal(back.table, whole.table, check_exact=True)
    assert json.dumps(back.settings) == json.dumps(whole.settings)


def test_results_depend_on_neither_the_choice_nor_the_order_of_layers_and_measures(whole: Study) -> None:
    everything = values(whole)
    some = values(study(layers=["3", "1"], measures=["two_nn", "linear_probe_accuracy", "cka_linear_biased"]))
    assert some == {k: v for k, v in everything.items() if k in some}
    alone = values(study(layers=["3"], measures=["capacity"]))
    assert alone
    assert alone == {k: v for k, v in everything.items() if k in alone}


def test_the_size_of_batches_changes_nothing(whole: Study) -> None:
    some = values(study(batch_size=7))
    for key, (value, ok) in some.items():
        assert ok
        assert value == pytest.approx(values(whole)[key][0], rel=1e-5)


def test_without_labels_and_initial_what_cannot_run_is_left_out_with_the_reason() -> None:
    made = study(labels=None, initial=None, measures=None, layers=["3"])
    assert made.table["ok"].all()
    assert set(made.table["at"]) == {"trained"}
    assert "pass labels=" in made.settings["left_out"]["capacity"]
    assert "pass initial=" in made.settings["left_out"]["weight_movement"]
    assert made.settings["accuracy"] == {}


def test_what_was_asked_for_by_name_and_cannot_run_is_a_failed_row() -> None:
    made = study(labels=None, initial=None, measures=["capacity", "weight_movement"])
    assert not made.table["ok"].any()
    assert set(made.table["quantity"]) == {*get("capacity").quantities, *get("weight_movement").quantities}
    assert made.table["note"].str.contains("pass labels=|pass initial=").all()


def test_without_initial_weights_the_location_is_by_reinitialisation() -> None:
    made = study(initial=None, measures=["stable_rank"], location=FAST, factory=make)
    assert made.location is not None
    assert made.location.tier == "reinitialised"
    assert set(made.table.loc[made.table["measure"] == "location", "at"]) == {"trained"}


def test_checkpoints_are_rows_by_their_step() -> None:
    made = study(checkpoints={20: model_at(1).state_dict()}, layers=["3"], measures=["stable_rank", "weight_movement",
                 "representation_change"])  # fmt: skip
    found = values(made)
    assert set(made.table["at"]) == {"init", "20", "trained", "init->20", "init->trained"}
    assert made.settings["checkpoints"] == ["20"]
    key = ("3", "3", "representation_change", "representation_change")
    assert found["init->20", *key][0] < found["init->trained", *key][0]
    # The same weights under another name give the same numbers.
    end = values(study(checkpoints={99: model_at(2)}, layers=["3"], measures=["representation_change"]))
    assert end["init->99", *key] == end["init->trained", *key]


def test_a_checkpoint_whose_activations_overflow_costs_its_own_rows_only() -> None:
    broken = model_at(1)
    with torch.no_grad():
        broken[1].weight.fill_(3e38)  # type: ignore[index]
    made = study(checkpoints={20: broken}, layers=["3"], measures=["stable_rank", "representation_change"])
    failed = made.table.loc[~made.table["ok"]]
    assert set(failed["at"]) == {"20", "init->20"}
    assert failed["note"].str.contains("NaN|infinite").all()
    assert made.table.loc[made.table["at"] == "trained", "ok"].all()


def test_constant_and_few_samples_are_failed_rows_not_crashes() -> None:
    dead = model_at(2)
    with torch.no_grad():
        dead[3].weight.zero_()  # type: ignore[index]
    x, y = digits()
    for made in (study(model=dead, measures=None), study(inputs=x[:3], labels=y[:3], measures=None, umap=True)):
        failed = made.table.loc[~made.table["ok"]]
        assert len(failed)
        assert (failed["note"].str.len() > 10).all()
        assert not failed["note"].str.contains("unexpected").any(), failed["note"].to_list()
        assert np.isfinite(made.table.loc[made.table["ok"], "value"]).all()
    assert "umap" in set(failed["measure"])


def test_the_bug_of_one_measure_costs_its_own_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    original = measuring.Measure.run

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.name == "two_nn":
            raise RuntimeError("a bug")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(measuring.Measure, "run", run)
    ok = study(measures=["stable_rank", "two_nn"]).table.groupby("measure")["ok"].all()
    assert not ok["two_nn"]
    assert ok["stable_rank"]


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"measures": ["stable_rnk"]}, BadInput, "near: stable_rank"),
        ({"layers": ["fc9"]}, LayerNotFound, "no layer matches 'fc9'"),
        ({"conditions": {"value": 1}}, BadInput, "column of the table"),
        ({"labels": torch.zeros(3)}, BadInput, "labels has 3 entries, but there are 60"),
        ({"reduce": "meen"}, BadInput, "reduce='meen'"),
        ({"project": -1}, BadInput, "project=-1"),
        ({"umap": "fc9"}, BadInput, "umap='fc9'"),
        (
            {"location": LocateOptions(n_probes=61)},
            BadInput,
            "n_probes=61 must lie between 4 and the number of inputs, 60",
        ),
        ({"location": LocateOptions(n_probes=3)}, BadInput, "n_probes=3"),
        ({"location": True, "initial": model_at(2)}, BadInput, "nothing was learned: the same weights"),
        ({"inputs": torch.full((60, 1, 8, 8), float("nan"))}, BadInput, "NaN"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        study(resume=tmp_path / "parts", **options)
    assert not (tmp_path / "parts").exists()


def test_an_interrupted_study_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, calls = study(), []
    original = tasks.measure_layers

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(args[0].name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(tasks, "measure_layers", counting)
    with pytest.raises(KeyboardInterrupt):
        study(resume=tmp_path / "parts")
    calls[3:] = []
    calls.extend([""] * 2)  # past the interruption
    before = len(calls)
    assert_same(study(resume=tmp_path / "parts").table, expected.table)
    n_tasks = sum(
        m in {"stable_rank", "label_alignment_unbiased", "representation_change"} for m in expected.table["measure"]
    )
    assert len(calls) - before == n_tasks - 3, "the three finished parts were not computed again"
    assert_same(study(resume=tmp_path / "parts").table, expected.table)
    assert len(calls) - before == n_tasks - 3, "a finished study computes nothing"


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"inputs": digits()[0] + 1e-3}, {"model": model_at(1)}, {"reduce": lambda t: t.flatten(1) * 2.0}],
)
def test_parts_of_other_settings_are_not_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    options: dict[str, Any] = {"measures": ["linear_probe_accuracy", "participation_ratio"], "layers": ["1"]}
    study(resume=tmp_path, **options)
    assert_same(study(resume=tmp_path, **options, **change).table, study(**options, **change).table)


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 8), nn.Linear(8, 10)

    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1))))
"""


@pytest.mark.parametrize("in_a_file", [True, False])
def test_parts_of_other_code_with_the_same_weights_are_not_taken(tmp_path: Path, in_a_file: bool) -> None:
    def net(text: str) -> nn.Module:
        if in_a_file:
            (tmp_path / "net.py").write_text(text)
            made = load_object(f"{tmp_path / 'net.py'}:Net")()
        else:
            names: dict[str, Any] = {"__name__": "a_notebook"}
            exec(text, names)
            made = names["Net"]()
        for p in made.parameters():
            torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(p.numel()))
        return made

    options: dict[str, Any] = {"measures": ["participation_ratio"], "layers": ["b"], "initial": None}
    first = study(model=net(NET), resume=tmp_path / "parts", **options)
    n_parts = len((tmp_path / "parts" / "finished.jsonl").read_text().splitlines())
    study(model=net(NET), resume=tmp_path / "parts", **options)
    assert len((tmp_path / "parts" / "finished.jsonl").read_text().splitlines()) == n_parts, "the same code, reused"
    other = net(NET.replace("relu", "tanh"))
    second = study(model=other, resume=tmp_path / "parts", **options)
    assert_same(second.table, study(model=other, **options).table)
    assert second.table["value"].iloc[0] != first.table["value"].iloc[0]


def test_the_location_is_kept_too_and_read_off_a_ladder_only_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"measures": ["stable_rank"], "location": FAST, "resume": tmp_path}
    first = study(**options)
    monkeypatch.setattr("geomfeat.study.location_rows.locate_network", None)
    again = study(**options)
    assert first.location is not None
    assert again.location is not None
    assert again.location.to_json() == first.location.to_json()
    assert_same(again.table, first.table)
    rungs = pd.DataFrame({"gamma": [0.1, 1.0], "richness": [-1.0, 0.0]})
    other = study(**options, ladder=Ladder(rungs, 0.05, ("1", "3"), 24))
    assert other.location is None, "another ladder is another location, which this broken locate cannot give"


def test_recurrent_networks_and_nested_outputs_have_rows() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(8, 6, batch_first=True)
            self.head = nn.Linear(6, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(x[:, 0])[0][:, -1])

    made = study(model=Net(), initial=Net(), measures=["stable_rank", "weight_movement"])
    assert made.settings["layers"] == ["rnn[0]"]
    assert made.table["ok"].all()


def test_every_device_gives_the_same_numbers(device: str) -> None:
    on_device = values(study(device=device))
    for key, (value, ok) in values(study()).items():
        assert (on_device[key][1], on_device[key][0]) == (ok, pytest.approx(value, rel=1e-3, abs=1e-6))
