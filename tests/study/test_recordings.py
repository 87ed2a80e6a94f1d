"""A recording is measured area by area, with groups from its runs, and without anything that is of networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import geomfeat as gf
from geomfeat.numerics import stream
from geomfeat.study.recorded_measures import OF_NETWORKS, ONE_CONDITION, plan_of
from geomfeat.study.recordings import analyze_recording
from tests.shared_data import shared

N = 48
CONDITION = ["a", "b", "c", "d"] * 12
RUN = np.repeat(range(6), 8)
CHEAP = ["participation_ratio", "nc1", "stable_rank", "cka_linear_unbiased"]


def recorded(units: int = 6, **more: object) -> gf.Recording:
    """IT separates the conditions, V1 does not."""
    noise = torch.randn(N, units, generator=stream(0, "recorded", units), dtype=torch.float64)
    place = torch.tensor(["abcd".index(c) for c in CONDITION])
    half = units // 2
    noise[:, half:] += 4 * torch.eye(4).double()[place][:, : units - half]
    area = ["V1"] * half + ["IT"] * (units - half)
    return gf.Recording(noise, CONDITION, **{"run": RUN, "area": area, "name": "m1", **more})


@pytest.fixture(scope="module")
def found() -> gf.Study:
    return analyze_recording(recorded(), measures=CHEAP, progress=False)


def test_every_area_and_pair_has_its_numbers_which_are_those_of_the_measures(found: gf.Study) -> None:
    table = found.table
    assert set(table["at"]) == {"recorded"}
    assert table["ok"].all()
    layers = recorded().to_representations()
    for area, layer in layers.items():
        row = table[(table["measure"] == "participation_ratio") & (table["layer"] == area)].iloc[0]
        direct = gf.get("participation_ratio").run(layer)["participation_ratio"]
        assert (row["value"], row["stderr"]) == (direct.value, direct.stderr)
        assert row["note"] == "error over 6 runs"
        assert (row["n"], row["d"]) == (N, 3)
    pair = table[table["measure"] == "cka_linear_unbiased"].iloc[0]
    assert (pair["layer"], pair["layer_b"]) == ("IT", "V1")
    assert pair["value"] == gf.cka(layers["IT"], layers["V1"]).value
    assert np.array_equal(found.arrays["cka/recorded/recorded"], [[1, pair["value"]], [pair["value"], 1]])


def test_the_area_that_separates_conditions_has_less_scatter_within_them(found: gf.Study) -> None:
    nc1 = found.table[found.table["measure"] == "nc1"].set_index("layer")["value"]
    assert nc1["IT"] < nc1["V1"] / 5


def test_an_error_over_runs_is_larger_than_one_over_trials_where_a_run_shifts_all_its_trials() -> None:
    x = recorded().x + 3 * torch.randn(6, 6, generator=stream(0, "shift"), dtype=torch.float64)[torch.from_numpy(RUN)]
    shifted = gf.Recording(x, CONDITION, run=RUN)
    errors = {}
    for groups in ("run", None):
        found = analyze_recording(shifted, measures="participation_ratio", groups=groups, progress=False)
        errors[groups] = found.table["stderr"][0]
    assert errors["run"] > 1.5 * errors[None]


def test_by_default_all_measures_that_need_no_network_are_run() -> None:
    found = analyze_recording(recorded(8), progress=False)
    assert {"capacity", "nc1", "two_nn", "linear_probe_accuracy", "cka_linear_unbiased"} <= set(found.table["measure"])
    assert not {"kernel_distance", "weight_movement", "time_regime", "d_lr"} & set(found.table["measure"])
    assert {found.settings["left_out"][name] for name in ("kernel_distance", "d_lr")} == {OF_NETWORKS}
    notes = set(found.table["note"])
    assert any(note.endswith("error over draws and 6 runs") for note in notes)
    assert not any("groups of samples" in note for note in notes)


def test_with_one_condition_what_compares_conditions_is_left_out_and_said() -> None:
    one = recorded().select(condition="a")
    found = analyze_recording(one, measures=None, progress=False)
    assert "nc1" not in set(found.table["measure"])
    assert found.settings["left_out"]["nc1"] == ONE_CONDITION
    assert found.settings["recording"]["notes"] == [
        "there is one condition only (a): what compares conditions cannot be measured"
    ]
    with pytest.raises(gf.BadInput, match="measure 'nc1' cannot be taken: it compares conditions"):
        analyze_recording(one, measures="nc1", progress=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measures": "kernel_distance"}, "it is a measure of networks"),
        ({"measures": "no_such"}, "no_such"),
        ({"groups": "session"}, "the recording has run"),
        ({"time": "last"}, "use 'mean', or 'flatten'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(changes: dict[str, str], words: str) -> None:
    with pytest.raises(gf.BadInput, match=words):
        analyze_recording(recorded(), progress=False, **changes)
    with pytest.raises(gf.BadInput, match=r"give Recording\(...\)"):
        analyze_recording(recorded().x, progress=False)  # type: ignore[arg-type]


def test_it_is_saved_loaded_resumed_and_drawn(found: gf.Study, tmp_path: Path) -> None:
    found.save(tmp_path / "study")
    again = gf.Study.load(tmp_path / "study")
    assert again.is_recording
    assert str(again) == str(found)
    assert str(found).endswith("recording of 48 trials, units by area: IT (3), V1 (3)")
    first = analyze_recording(recorded(), measures=CHEAP, resume=tmp_path / "parts", progress=False)
    second = analyze_recording(recorded(), measures=CHEAP, resume=tmp_path / "parts", progress=False)
    assert first.table["seconds"].tolist() == second.table["seconds"].tolist()  # nothing was measured again
    assert found.plot().get_xlabel() == "area"


def test_the_real_recording_gives_the_numbers_of_its_representation() -> None:
    recording = gf.load_recording(shared("data/haxby-1slice.npz"))
    assert (recording.n_trials, recording.n_units, len(recording.conditions)) == (864, 530, 8)
    assert recording.group_word == "run"
    means = recording.condition_means(by="run")
    found = analyze_recording(means, measures=["label_alignment_unbiased", "linear_probe_accuracy"], progress=False)
    table = found.table.set_index("measure")
    assert table.loc["label_alignment_unbiased", "note"] == "error over 12 runs"
    # A linear read-out of held-out runs is far above the chance level of one in eight.
    assert table.loc["linear_probe_accuracy", "value"] > 0.125 + 5 * table.loc["linear_probe_accuracy", "stderr"]


def test_the_controls_of_the_capacity_run_beside_it_by_default() -> None:
    plan = plan_of(None, True)
    assert {"capacity", "capacity_shuffled", "capacity_noise"} <= set(plan.names)
    assert not {"capacity_shuffled", "capacity_noise"} & set(plan.left_out)
    assert "capacity_noise" not in plan_of(None, False).names
    assert plan_of(["capacity"], True).names == ["capacity"]


def test_areas_of_unequal_size_have_their_capacity_at_equal_numbers_of_units() -> None:
    x = torch.randn(24, 25, generator=stream(0, "areas"), dtype=torch.float64)
    x = x + 3 * torch.randn(4, 25, generator=stream(1, "areas"), dtype=torch.float64)[[0, 1, 2, 3] * 6]
    rec = gf.Recording(x, CONDITION[:24], area=["V1"] * 15 + ["IT"] * 10)
    rows = analyze_recording(rec, measures=["capacity"], progress=False).table
    rows = rows[rows["measure"] == "capacity_matched"].set_index(["layer", "quantity"])
    direct = gf.matched_capacities(rec.to_representations(), repeats=5, n_draws=50)
    assert direct.n_features == 10
    for i, area in enumerate(direct.names):
        for name in ("capacity", "radius", "axis_alignment"):
            assert rows.loc[(area, name), "value"] == float(direct.mean[name][i])
            assert rows.loc[(area, name), "stderr"] == float(direct.se[name][i])
            assert "matched at 6 points a class and 10 units" in rows.loc[(area, name), "note"]
    equal = analyze_recording(rec.select(area="IT"), measures=["capacity"], progress=False).table
    assert "capacity_matched" not in set(equal["measure"])
