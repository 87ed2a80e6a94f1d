"""The location as rows, and accuracy where outputs and classes fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.location._locate import locate
from geomfeat.location.options import LocateOptions
from geomfeat.location.reference_ladder import Ladder
from geomfeat.location.result import KERNEL, Location
from geomfeat.regimes.training import train_at_gamma
from geomfeat.study.location_rows import (
    QUANTITIES,
    WHOLE,
    accuracy_of,
    check_ladder,
    locate_subject,
    located_with,
    location_rows,
)
from geomfeat.study.options import StudyOptions
from geomfeat.study.snapshots import Look, Subject, make_subject
from tests.study import small
from tests.study.small import model_at

FAST = LocateOptions(n_bootstrap=2, n_probes=24, share_left=0.05)
AS_A_LADDER = replace(FAST, share_left=None)  # a ladder has R as the mean over shares
HOW: dict[str, Any] = {"seed": 0, "progress": False}


def digits() -> tuple[Tensor, Tensor]:
    return small.digits(30)


def subject(model: nn.Module | None = None, layers: str | list[str] = "*", **known: Any) -> Subject:
    x, y = digits()
    initial = model_at(0) if model is None else None
    return make_subject(
        model or model_at(2), x, y, initial=initial, checkpoints=None, layers=layers, look=Look.of(), **known
    )


def located(made: Subject, options: LocateOptions = FAST) -> Location:
    where, note = locate_subject(made, asked=StudyOptions(), options=options, **HOW)
    assert where is not None, note
    return where


def test_rows_hold_the_location_of_the_network_and_of_every_layer() -> None:
    made = subject()
    where = located(made)
    rows = {(r["layer"], r["quantity"]): r["value"] for r in location_rows(where, made, "")}
    assert {q: rows["", q] for q in WHOLE} == {q: getattr(where, q) for q in WHOLE}
    for record in where.layers.to_dict("records"):
        assert rows[record["layer"], "richness"] == record["richness"]


@pytest.mark.parametrize("layers", ["*", "leaf", ["type:ReLU"], ["1"], ["2", "[34]"]])
def test_the_location_is_of_the_layers_that_were_asked_for(layers: str | list[str]) -> None:
    x, y = digits()
    alone = locate(model_at(2), x, y, initial=model_at(0), layers=layers, progress=False, options=FAST)
    found = located(subject(layers=layers))
    pd.testing.assert_frame_equal(found.layers, alone.layers)
    assert found.richness == alone.richness


def test_the_parameters_that_were_trained_may_be_named() -> None:
    x, y = digits()
    named = ["3.*", "5.*"]
    where = located(subject(params=named))
    alone = locate(model_at(2), x, y, initial=model_at(0), params=named, progress=False, options=FAST)
    assert where.richness == alone.richness != located(subject()).richness


def test_a_network_that_cannot_be_located_has_failed_rows_that_say_why() -> None:
    x, y = digits()
    same = make_subject(model_at(2), x, y, initial=model_at(2), checkpoints=None, layers="*", look=Look.of())
    where, note = locate_subject(same, asked=StudyOptions(), options=FAST, **HOW)
    assert where is None
    rows = location_rows(None, same, note)
    assert [r["quantity"] for r in rows] == list(WHOLE)
    assert not any(r["ok"] for r in rows)
    assert "initial" in note


def test_a_ladder_that_cannot_be_used_costs_the_gamma_only() -> None:
    made = subject()
    other = Ladder(pd.DataFrame({"gamma": [0.1, 1.0], "richness": [-1.0, 0.0], "converged": True}), 0.05, ("fc9",), 24)
    where, note = locate_subject(made, asked=StudyOptions(ladder=other), options=AS_A_LADDER, **HOW)
    assert where is not None
    assert where.richness == located(made, AS_A_LADDER).richness
    assert where.flags[-1].startswith("No equivalent gamma: the ladder was measured on 24 probes and layers fc9")
    failed = [r for r in location_rows(where, made, note) if not r["ok"]]
    assert [(r["quantity"], "ladder" in r["note"]) for r in failed] == [("equivalent_gamma", True)]


def test_rows_and_ladders_know_what_was_read() -> None:
    made = subject()
    rungs = pd.DataFrame({"gamma": [0.1, 1.0], "richness": [-1.0, 0.0], "converged": True})
    centred = Ladder(rungs, 0.05, ("1", "3"), 24, readout="outputs less their mean")
    where, note = locate_subject(made, asked=StudyOptions(ladder=centred), options=AS_A_LADDER, **HOW)
    assert where is not None
    assert "measured on 'outputs less their mean', the model on 'outputs': give locate and train_ladder" in note
    assert {'"readout": "outputs"' in r["options"] for r in location_rows(where, made, "") if r["ok"]} == {True}


def test_a_ladder_gives_rows_with_the_equivalent_gamma() -> None:
    made = subject()
    rungs = pd.DataFrame({"gamma": [0.1, 1.0, 10.0], "richness": [-1.0, 0.0, 1.0], "converged": True})
    ladder = Ladder(rungs, 0.05, ("1", "3"), 24)
    where, note = locate_subject(made, asked=StudyOptions(ladder=ladder), options=AS_A_LADDER, **HOW)
    assert where is not None, note
    rows = {r["quantity"]: r["value"] for r in location_rows(where, made, note) if r["layer"] == ""}
    assert rows["equivalent_gamma"] == where.equivalent_gamma
    assert rows["gamma_low"] < rows["equivalent_gamma"] < rows["gamma_high"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: check_ladder(4, None), "pass labels="),
        (lambda: StudyOptions(ladder=1), "ladder=1: at least 2"),
        (lambda: StudyOptions(ladder=101), "ladder=101: at most 100"),
        (lambda: LocateOptions(loss="huber"), "loss='huber'"),
        (lambda: LocateOptions(n_bootstrap=1), "n_bootstrap=1"),
        (lambda: located_with({"n_bootstraps": 2}), "'n_bootstraps': ...} is not one of.*near: n_bootstrap"),
        (lambda: located_with({"n_bootstrap": 1}), "n_bootstrap=1"),
        (lambda: located_with(3), r"location is a int: give True, False or LocateOptions"),
    ],
)
def test_options_that_could_only_fail_are_refused_before_any_work(make: Callable[[], Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        make()


def test_a_quantity_that_could_not_be_reported_is_a_failed_row() -> None:
    where = Location(-1.0, -1.1, -0.9, math.nan, math.nan, "initial", None, False, "undetermined", pd.DataFrame())
    ok = {r["quantity"]: r["ok"] for r in location_rows(where, subject(), "")}
    assert ok == {"richness": True, "low": True, "high": True, "movement": False, "excess": False} | dict.fromkeys(
        KERNEL, False
    )


def test_what_happened_to_the_kernel_has_no_row_where_the_start_is_not_known() -> None:
    fresh = Location(
        -1.0, -1.1, -0.9, -1.0, 0.0, "reinitialised", -2.0, False, "lazy", pd.DataFrame(), kernel_demand=-0.4,
        kernel_demand_on_target=-math.inf,
    )  # fmt: skip
    rows = {r["quantity"]: r for r in location_rows(fresh, subject(), "")}
    assert set(rows) == {*QUANTITIES, "kernel_demand", "kernel_demand_on_target"}
    assert rows["kernel_demand"]["value"] == -0.4
    assert rows["kernel_demand"]["ok"]
    assert not rows["kernel_demand_on_target"]["ok"]
    assert rows["kernel_demand_on_target"]["note"].endswith("minus infinity: the tangent kernel cannot change")


def test_accuracy_is_the_share_of_right_answers() -> None:
    x, y = digits()
    expected = float((model_at(2)(x).argmax(1) == y).double().mean())
    assert accuracy_of(subject(), None)[0] == {"data": expected}
    parts = accuracy_of(subject(), {"train": (x, y), "test": (x[:10], y[:10]), "bare": (x, None)})[0]
    assert parts["train"] == expected
    assert set(parts) == {"train", "test"}


def test_a_lazily_trained_network_is_judged_by_its_change() -> None:
    x, y = digits()
    start = model_at(0)
    lazy = train_at_gamma(start, x, y, gamma=0.001, target_loss=0.05)
    made = make_subject(lazy.model, x, y, initial=start, checkpoints=None, layers="*", look=Look.of())
    accuracy, read_from = accuracy_of(made, None)
    assert read_from == "outputs minus initial outputs"
    assert accuracy["data"] == lazy.train_accuracy
    assert accuracy["data"] > 0.8
    assert accuracy_of(subject(), None)[1] == "outputs"


def test_accuracy_is_left_out_where_outputs_are_not_the_classes() -> None:
    x, _ = digits()
    assert accuracy_of(subject(), {"other": (x, torch.arange(30) % 3)})[0] == {}
    assert accuracy_of(subject(), {"none": (x, None)})[0] == {}


def test_accuracy_refuses_labels_of_the_wrong_length() -> None:
    x, y = digits()
    with pytest.raises(BadInput, match=r"evaluate\['test'\] has 30 inputs and 29 labels"):
        accuracy_of(subject(), {"test": (x, y[:-1])})


def test_signs_are_right_where_they_agree() -> None:
    x, y = digits()
    y = 2 * (y % 2) - 1
    model = nn.Sequential(model_at(2), nn.Linear(10, 1))
    made = make_subject(model, x, y, initial=None, checkpoints=None, layers="*", look=Look.of())
    with torch.no_grad():
        expected = float((model(x)[:, 0].sign() == y).double().mean())
    assert accuracy_of(made, None)[0] == {"data": expected}


def test_rows_of_a_frozen_network_say_that_nothing_moved() -> None:
    x, y = digits()
    end = model_at(0)
    with torch.no_grad():
        end[5].weight.mul_(3)
    made = make_subject(end, x, y, initial=model_at(0), checkpoints=None, layers="*", look=Look.of())
    where = located(made)
    assert where.regime == "frozen"
    rows = {(r["layer"], r["quantity"]): r for r in location_rows(where, made, "")}
    assert rows["", "richness"]["ok"]
    assert "if it had been free to move" in rows["", "richness"]["note"]
    assert not rows["1", "movement"]["ok"]
    assert "nothing moved" in rows["1", "movement"]["note"]


def test_the_interval_is_over_groups_where_there_are_enough() -> None:
    x, y = small.digits(24)
    many, few = torch.arange(len(x)) // 4, torch.arange(len(x)) % 2
    options = LocateOptions(n_probes=len(x), n_bootstrap=4, share_left=0.05)
    found = []
    for groups in (None, many, few):
        made = make_subject(
            model_at(2), x, y, groups=groups, initial=model_at(0), checkpoints=None, layers="*", look=Look.of()
        )
        where, _ = locate_subject(made, asked=StudyOptions(), options=options, **HOW)
        assert where is not None
        found.append(where)
    plain, over_groups, over_samples = found
    assert (over_groups.details["n_groups"], over_samples.details["n_groups"]) == (len(many.unique()), None)
    assert over_groups.richness == plain.richness
    assert over_groups.details["stderr"] != plain.details["stderr"] == over_samples.details["stderr"]
    assert over_samples.flags[-1] == "The interval is over samples: one over groups needs at least 3, there are 2."


def test_one_output_for_zero_and_one_is_read_as_the_logit_or_the_value_that_it_shows() -> None:
    x, y = digits()
    odd = y % 2
    for logit in (True, False):
        made = make_subject(Answering(logit), x, odd, initial=None, checkpoints=None, layers=["first"], look=Look.of())
        object.__setattr__(made, "inputs", torch.cat([odd[:, None].float(), x.flatten(1)], 1))
        assert accuracy_of(made, None)[0] == {"data": 1.0}
        assert accuracy_of(made, None, "cross-entropy" if logit else "mse")[0] == {"data": 1.0}
        assert accuracy_of(made, None, "mse" if logit else "cross-entropy")[0]["data"] < 1.0


def test_classes_with_other_numbers_are_right_where_their_output_is_the_largest() -> None:
    x, y = digits()
    renamed = {"data": (x, 7 * y + 3), "test": (x[:5], 7 * y[:5] + 3)}
    assert accuracy_of(subject(), renamed) == accuracy_of(subject(), {"data": (x, y), "test": (x[:5], y[:5])})


class Answering(nn.Module):
    """Reads the answer from the first input: as a logit that is small for one class, or as the value."""

    def __init__(self, logit: bool) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.weight = nn.Parameter(torch.ones(1))
        self.logit = logit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer = self.first(x.flatten(1)[:, :1]) * self.weight
        return 2.4 * answer - 2.0 if self.logit else 0.8 * answer + 0.1
