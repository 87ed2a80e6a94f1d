"""The container: what it refuses, what it drops and counts, and what it gives."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import geomfeat as gf
from geomfeat.numerics import stream
from geomfeat.recordings import Recording
from tests.recordings import one_recording as one

X = torch.randn(12, 4, generator=stream(0, "test recording"), dtype=torch.float64)
CONDITION = ["a", "b", "c"] * 4
RUN = [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3


def holes() -> np.ndarray:
    """Unit 3 has no values, trial 5 has none, and unit 1 lacks one value."""
    x = X.numpy().copy()
    x[:, 3], x[5], x[0, 1] = np.nan, np.nan, np.nan
    return x


def test_it_is_frozen_and_keeps_its_labels() -> None:
    found = Recording(X, CONDITION, run=RUN, area=["V1", "V1", "V4", "V4"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.x = X  # type: ignore[misc]
    assert (found.n_trials, found.n_units) == (12, 4)
    assert found.conditions == ("a", "b", "c")
    assert found.trials_per_condition == {"a": 4, "b": 4, "c": 4}
    assert found.flags == ()
    assert found.notes == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": X[0]}, "must be (trials, units) or (trials, units, time)"),
        ({"x": X[:, :, None]}, "has a time axis: give time="),
        ({"time": [0.0]}, "has no time axis"),
        ({"x": X[:, :, None].expand(12, 4, 3), "time": [0.0, 0.2, 0.1]}, "time 0.1 comes before 0.2). Sort both"),
        ({"x": X[:, :, None].expand(12, 4, 3), "time": [0.0, 0.0, 0.1]}, "time 0 comes twice"),
        ({"x": X[:, :, None].expand(12, 4, 3), "time": [0.0, 0.1]}, "x has 3 time points"),
        ({"x": X[:, :, None].expand(12, 4, 2), "time": [0.0, np.nan]}, "1 of 2 time stamps are NaN"),
        ({"condition": CONDITION[:11]}, "condition has 11 entries, but x has 12 trials"),
        ({"condition": None}, "condition is None"),
        ({"run": [1.0] * 11 + [np.nan]}, "1 of 12 run are missing"),
        ({"area": ["V1"] * 12}, "area has 12 entries, but x has 4 units"),
        ({"x": X.where(X < 1, torch.inf)}, "infinite values: mark what was not measured by NaN"),
        ({"missing": "ignore"}, "use one of 'refuse', 'drop trials', 'drop units'"),
    ],
)
def test_bad_input_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(gf.BadInput) as error:
        Recording(**{"x": X, "condition": CONDITION, **changes})
    assert words in str(error.value)


def test_missing_values_are_refused_with_what_each_remedy_would_leave() -> None:
    with pytest.raises(gf.BadInput) as error:
        Recording(holes(), CONDITION)
    assert str(error.value) == (
        "x has 16 missing of 48 values (NaN), in 12 of 12 trials and 4 of 4 units; 1 of 4 units have no values at all; "
        "1 of 12 trials have no values at all. missing='drop trials' leaves 10 trials x 3 units, missing='drop units' "
        "11 x 2"
    )


def test_trials_or_units_are_dropped_and_counted() -> None:
    by_trial = Recording(holes(), CONDITION, run=RUN, unit=list("pqrs"), missing="drop trials")
    kept = [i for i in range(12) if i not in (0, 5)]
    assert torch.equal(by_trial.x, X[kept][:, :3])
    assert by_trial.condition.tolist() == [CONDITION[i] for i in kept]
    assert by_trial.unit.tolist() == ["p", "q", "r"]
    assert by_trial.notes == (
        "1 of 4 units were dropped: they have no values in any trial",
        "2 of 12 trials were dropped: values are missing (NaN)",
    )
    by_unit = Recording(holes(), CONDITION, run=RUN, missing="drop units")
    assert torch.equal(by_unit.x, X[[i for i in range(12) if i != 5]][:, [0, 2]])
    assert by_unit.notes == (
        "1 of 12 trials were dropped: they have no values in any unit",
        "2 of 4 units were dropped: values are missing (NaN)",
    )
    with pytest.raises(gf.BadInput, match="holds no values: all are missing"):
        Recording(np.full((12, 4), np.nan), CONDITION, missing="drop trials")
    everywhere = X.numpy().copy()
    everywhere[range(12), np.arange(12) % 4] = np.nan
    for missing, left in (("drop trials", "0 trials and 4 units"), ("drop units", "12 trials and 0 units")):
        with pytest.raises(gf.BadInput, match=f"leaves {left}"):
            Recording(everywhere, CONDITION, missing=missing)


def test_narrow_counts_are_added_up_in_float64_and_their_ends_are_counted() -> None:
    counts = np.full((12, 4), 100, dtype=np.int8)
    found = Recording(counts, CONDITION)
    assert found.x.dtype == torch.float64
    assert found.condition_means().x.unique().tolist() == [100.0]
    assert found.select(condition="a").x.sum().item() == 1600  # 16 x 100, which int8 cannot hold
    timed = Recording(np.full((12, 4, 3), 100, dtype=np.uint8), CONDITION, time=[0.0, 0.1, 0.2])
    assert timed.bins(0.3, how="sum").x.unique().tolist() == [300.0]
    assert found.notes == ()
    counts[3, 2] = 127
    assert "1 value of int8 is 127, the largest it holds" in Recording(counts, CONDITION).notes[0]
    counts[3, 2] = -3
    assert "1 values of int8 are below zero" in Recording(counts, CONDITION).notes[0]


def test_what_limits_the_data_is_counted() -> None:
    assert Recording(X, ["a"] * 12).flags == (
        "there is one condition only (a): what compares conditions cannot be measured",
    )
    alone = Recording(X, ["a"] * 3 + ["b", "c"] * 4 + ["c"], run=RUN)
    assert alone.flags == (
        "1 of 3 conditions (a) are in one run only: when it is left out, they are gone, so there are no errors over "
        "runs for what needs them",
    )
    copied = X.clone()
    copied[[7, 9]] = X[2]
    assert Recording(copied, CONDITION).flags == (
        "2 of 12 trials equal an earlier one in every value (the first: trial 7 equals trial 2): if they were recorded "
        "once, drop them",
    )
    still = X.clone()
    still[:, 1] = 0.0
    assert Recording(still, CONDITION).flags == ("1 of 4 units never change",)


def test_labels_select_and_unknown_ones_are_refused() -> None:
    found = Recording(X, CONDITION, run=RUN, area=["V1", "V1", "V4", "IT"])
    assert torch.equal(found.select(condition=["a", "c"], area="V1").x, X[[i for i in range(12) if i % 3 != 1]][:, :2])
    assert torch.equal(found.select(run=2).x, X[3:6])
    assert torch.equal(found.select(run="2", area=["IT", "V4"]).x, X[3:6, 2:])
    for wanted, words in (({"area": "V5"}, "no area 'V5'"), ({"session": 1}, "has no session labels"),
                          ({"condition": []}, "condition is empty"), ({"time": (0, 1)}, "no time axis")):  # fmt: skip
        with pytest.raises(gf.BadInput, match=words):
            found.select(**wanted)


def test_windows_and_bins_agree_with_sums_by_hand() -> None:
    found = one.expected(timed=True)
    assert torch.equal(found.select(time=(0.1, 0.3)).x, found.x[:, :, 1:3])
    wide = found.bins(0.2, start=0.0)
    assert torch.equal(wide.x, (found.x[:, :, ::2] + found.x[:, :, 1::2]) / 2)
    torch.testing.assert_close(wide.time, torch.tensor([0.1, 0.3], dtype=torch.float64))
    uneven = found.bins(0.3, start=0.0, how="sum")
    assert torch.equal(uneven.x[:, :, 0], found.x[:, :, :3].sum(2))
    assert uneven.notes == ("1 of 4 time points fill no whole bin of 0.3 s and were left out",)
    with pytest.raises(gf.BadInput, match="holds no time point"):
        found.bins(0.05)
    with pytest.raises(gf.BadInput, match="wider than"):
        found.bins(1.0)


def test_condition_means_agree_with_means_by_hand_for_unequal_trials() -> None:
    names = np.array(list("abacabaaabbb"))
    found = Recording(X.float(), names, run=RUN)
    means = found.condition_means()
    for i, name in enumerate("abc"):
        torch.testing.assert_close(means.x[i], X.float()[names == name].double().mean(0), rtol=1e-12, atol=1e-12)
    assert means.condition.tolist() == ["a", "b", "c"]
    assert means.run is None
    assert means.notes == ("3 means of conditions over 1 to 6 trials each",)
    by_run = found.condition_means(by="run")
    cells = list(zip(by_run.condition, by_run.run, strict=True))
    assert cells == sorted({(n, r) for n, r in zip(names, RUN, strict=True)})
    where = (names == "a") & (np.array(RUN) == 3)
    torch.testing.assert_close(by_run.x[cells.index(("a", 3))], X.float()[where].double().mean(0))
    with pytest.raises(gf.BadInput, match="no session labels"):
        found.condition_means(by="session")


def test_matched_trials_are_as_many_and_larger_choices_hold_smaller_ones() -> None:
    names = np.array(list("abaabaaabbba"))
    found = Recording(X, names)
    matched = found.match_trials(seed=3)
    assert matched.trials_per_condition == {"a": 5, "b": 5}
    assert torch.equal(matched.x, found.match_trials(seed=3).x)
    rows = {tuple(row) for row in matched.x.tolist()}
    assert {tuple(row) for row in found.match_trials(3, seed=3).x.tolist()} < rows
    assert not torch.equal(matched.x, found.match_trials(seed=4).x)
    with pytest.raises(gf.BadInput, match="condition 'b' has 5 trials"):
        found.match_trials(6)


def test_representations_have_conditions_as_labels_and_runs_within_sessions_as_groups() -> None:
    session = ["mon"] * 6 + ["tue"] * 6
    found = Recording(X, CONDITION, run=[1, 1, 1, 2, 2, 2] * 2, session=session, area=["V1", "V4", "V4", "IT"])
    layers = found.to_representations()
    assert list(layers) == ["IT", "V1", "V4"]
    assert torch.equal(layers["V4"].x, X[:, 1:3])
    assert layers["V4"].classes == ("a", "b", "c")
    assert layers["V4"].labels.tolist() == [0, 1, 2] * 4
    assert layers["V4"].groups.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert found.to_representation(groups="session").groups.tolist() == [0] * 6 + [1] * 6
    assert found.to_representation(groups=None).groups is None
    with pytest.raises(gf.BadInput, match="has session and run"):
        found.to_representation(groups="subject")
    timed = one.expected(timed=True)
    assert torch.equal(timed.to_representation().x, timed.x.mean(2))
    assert timed.to_representation(time="flatten").x.shape == (24, 20)
    assert timed.to_representation(area="IT").meta["reduce"] == "mean over time"
    angles = Recording(X, [0.0, 22.5, 45.0] * 4).to_representation()
    assert angles.classes == ("0.0", "22.5", "45.0")


def test_sessions_and_text() -> None:
    found = Recording(
        X, CONDITION, run=RUN, session=["mon"] * 6 + ["tue"] * 6, area=["V1", "V4", "V4", "IT"], name="m1"
    )
    assert torch.equal(found.by_session()["tue"].x, X[6:])
    assert str(found) == (
        "Recording 'm1': 12 trials of 3 conditions (4 each), 4 units (1 in IT, 1 in V1, 2 in V4), 4 runs, 2 sessions"
    )
    assert "4 time points from 0.05 to 0.35 s" in str(one.expected(timed=True))
    with pytest.raises(gf.BadInput, match="has no session labels"):
        Recording(X, CONDITION).by_session()


def test_the_table_has_a_row_for_each_trial_and_time() -> None:
    frame = one.expected(timed=True).to_frame()
    assert len(frame) == one.N * one.BINS
    row = frame.query("trial == 7 and time > 0.2 and time < 0.3").iloc[0]
    assert row["u3"] == one.COUNTS[7, 3, 2]
    assert row["condition"] == one.CONDITION[7]
    assert list(one.expected(timed=False).to_frame().columns) == ["trial", "condition", "run", *one.UNIT]
