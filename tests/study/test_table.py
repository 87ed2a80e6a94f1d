"""The tidy table: fixed columns and types, failures as rows, conditions as columns."""

from __future__ import annotations

import json
import math

import pytest

from geomfeat.errors import BadInput
from geomfeat.study.table import RESULT, checked_conditions, failed_rows, options_text, row, table_of
from geomfeat.types import Estimate

FACTS = {"at": "trained", "measure": "m", "layer": "fc1"}


def test_columns_are_those_of_the_design_in_order() -> None:
    made = table_of(
        [row("q", Estimate(1.0, 0.1), **FACTS)], run="a", seed=3, conditions={"lr": 0.1, "seed": 7}, version="1"
    )
    assert list(made.columns) == ["run", "seed", "at", "lr", *RESULT]
    assert made.loc[0, "seed"] == 7, "the seed of the training run fills the column, where it is known"
    assert made.loc[0, "stderr"] == 0.1


def test_an_empty_table_has_the_same_columns_and_types() -> None:
    full = table_of([row("q", Estimate(1.0), **FACTS)], run="a", seed=0, conditions={}, version="1")
    empty = table_of([], run="a", seed=0, conditions={}, version="1")
    assert list(empty.columns) == list(full.columns)
    assert dict(empty.dtypes[list(RESULT)]) == dict(full.dtypes[list(RESULT)])


def test_a_failed_measure_has_a_row_for_each_of_its_numbers() -> None:
    rows = failed_rows(["a", "b"], "needs labels: pass labels=", **FACTS)
    made = table_of(rows, run="a", seed=0, conditions={}, version="1")
    assert list(made["quantity"]) == ["a", "b"]
    assert not made["ok"].any()
    assert made["value"].isna().all()
    assert set(made["note"]) == {"needs labels: pass labels="}


def test_missing_numbers_stay_missing() -> None:
    made = table_of([row("q", Estimate(1.0), **FACTS)], run="a", seed=0, conditions={}, version="1")
    assert math.isnan(made.loc[0, "stderr"])
    assert made["n"].isna().all()


@pytest.mark.parametrize("name", ["run", "at", "value", "layer", "note"])
def test_a_condition_cannot_take_the_name_of_a_column(name: str) -> None:
    with pytest.raises(BadInput, match=f"'{name}' is a column.*rename"):
        checked_conditions({name: 1})


def test_a_condition_is_a_plain_value() -> None:
    with pytest.raises(BadInput, match=r"conditions\['widths'\] is a list"):
        checked_conditions({"widths": [1, 2]})


def test_options_are_json_whatever_they_hold() -> None:
    assert json.loads(options_text({"b": 1, "a": {2}})) == {"a": "{2}", "b": 1}
