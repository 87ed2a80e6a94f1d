"""Labels, groups and conditions in every container, and what none of them may hold."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.errors import BadInput
from geomfeat.labels import Labels, as_goal, as_groups, as_labels, levels_of

WHOLE = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "column": lambda v: np.array(v)[:, None],
    "objects": lambda v: np.array(v, dtype=object),
    "floats": lambda v: np.array(v, dtype=np.float64),
    "single precision": lambda v: np.array(v, dtype=np.float32),
    "foreign bytes": lambda v: np.array(v, dtype=">i4"),
    "read-only": lambda v: np.broadcast_to(np.array(v), (len(v),)),
    "nothing masked": lambda v: np.ma.masked_array(v, mask=False),
    "tensor": torch.tensor,
    "float tensor": lambda v: torch.tensor(v, dtype=torch.float32),
    "list of tensors": lambda v: [torch.tensor(one) for one in v],
    "numpy numbers": lambda v: [np.int32(one) for one in v],
    "series": lambda v: pd.Series(v, index=range(len(v), 0, -1)),
    "nullable series": lambda v: pd.Series(v, dtype="Int64"),
    "frame": lambda v: pd.DataFrame({"y": v}),
    "categorical": pd.Categorical,
    "index": pd.Index,
}
NAMES = {
    "list": list,
    "array": np.array,
    "column": lambda v: np.array(v)[:, None],
    "objects": lambda v: np.array(v, dtype=object),
    "bytes": lambda v: np.array([one.encode() for one in v]),
    "numpy strings": lambda v: [np.str_(one) for one in v],
    "variable width": lambda v: np.array(v, dtype=np.dtypes.StringDType()),
    "series": pd.Series,
    "categorical": pd.Categorical,
    "nothing masked": lambda v: np.ma.masked_array(v, mask=[False] * len(v)),
}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=20))
def test_numbers_stay_as_they_are_in_any_container(values: list[int]) -> None:
    for kind, made in WHOLE.items():
        found = as_labels(made(values))
        assert found.codes.dtype == torch.int64, kind
        assert found.codes.tolist() == values, kind
        assert found.classes == (), kind


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("abcxyz", min_size=1, max_size=5), min_size=1, max_size=20))
def test_names_are_numbered_in_sorted_order_in_any_container(values: list[str]) -> None:
    order = sorted(set(values))
    for kind, made in NAMES.items():
        found = as_labels(made(values))
        assert found.codes.tolist() == [order.index(v) for v in values], kind
        assert found.classes == tuple(order), kind


def test_booleans_are_the_classes_0_and_1() -> None:
    for raw in ([True, False], np.array([True, False]), torch.tensor([True, False]), pd.Series([True, False])):
        assert as_labels(raw).codes.tolist() == [1, 0]


def test_dates_and_categories_are_names() -> None:
    days = [datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)]
    assert as_labels(days).classes == ("2020-01-01", "2020-01-02")
    assert as_labels(np.array(days, dtype="datetime64[D]")).codes.tolist() == [1, 0]
    assert as_labels(pd.Categorical(["b", "a"], categories=["b", "a"])).classes == ("a", "b")


MISSING = {
    "NaN among strings": ["a", float("nan"), "b"],
    "None among strings": ["a", None, "b"],
    "None among numbers": [1, None, 2],
    "NaN among numbers": [1.0, math.nan, 2.0],
    "NA": pd.Series([1, pd.NA, 2], dtype="Int64"),
    "NA among strings": ["a", pd.NA, "b"],
    "NaT": pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-02"])),
    "NaT of numpy": np.array(["2020-01-01", "NaT", "2020-01-02"], dtype="datetime64[D]"),
    "strings of pandas": pd.Series(["a", None, "b"]),
    "category": pd.Categorical(["a", None, "b"]),
    "text that numpy made of NaN": np.array(["a", float("nan"), "b"]),
    "text that pandas made of NA": np.array(["a", "<NA>", "b"]),
    "masked": np.ma.masked_array([1, 2, 3], mask=[False, True, False]),
    "masked strings": np.ma.masked_array(["a", "b", "c"], mask=[False, True, False]),
    "masked entry": [1, np.ma.masked, 2],
    "tensor": torch.tensor([1.0, math.nan, 2.0]),
    "half precision": torch.tensor([1.0, math.nan, 2.0], dtype=torch.bfloat16),
    "decimal": [Decimal(1), Decimal("NaN"), Decimal(2)],
    "column": np.array([["a"], [None], ["b"]], dtype=object),
}


@pytest.mark.parametrize("kind", MISSING)
@pytest.mark.parametrize("read", [as_labels, as_groups, levels_of, as_goal])
def test_a_missing_label_is_counted_and_never_a_class(kind: str, read: Any) -> None:
    with pytest.raises(BadInput, match=r"\b1 (of 3|masked|NaN|missing)\b"):
        read(MISSING[kind], "conditions")


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ([2.0**53, 0.0], "9007199254740992"),
        ([2**53 + 1, 0.5 * 2], "9007199254740992"),
        (np.array([-(2.0**53), 0.0]), "9007199254740992"),
        (np.array([2**24 + 1, 0], dtype=np.float32), "16777216"),
        (torch.tensor([2**24, 0], dtype=torch.float32), "16777216"),
        (torch.tensor([2049, 0]).to(torch.float16), "2048"),
        (torch.tensor([257, 0]).to(torch.bfloat16), "256"),
    ],
)
def test_numbers_that_rounding_may_have_merged_are_refused(values: Any, where: str) -> None:
    with pytest.raises(BadInput, match=f"1 of 2 labels are {where} or more"):
        as_labels(values)


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (np.float32(2**24) + np.arange(4, dtype=np.float32), "16777216"),
        (torch.tensor([2.0**24, 2.0**24 + 2]), "16777216"),
        (2.0**53 + np.arange(4.0), "9007199254740992"),
        ([2**53 + 1, 0.5], "9007199254740992"),
    ],
)
def test_groups_that_rounding_may_have_merged_are_refused(raw: Any, where: str) -> None:
    with pytest.raises(BadInput, match=f"groups are {where} or more"):
        as_groups(raw)
    assert as_groups([0.5, 2.0**52, 0.5]).tolist() == [0, 1, 0]


def test_large_integers_keep_every_digit() -> None:
    large = [2**62, 2**62 + 1]
    for raw in (large, np.array(large), torch.tensor(large), np.array(large, dtype=np.uint64), pd.Series(large)):
        assert as_labels(raw).codes.tolist() == large
    with pytest.raises(BadInput, match="beyond 6"):
        as_labels([2**64, 0])
    with pytest.raises(BadInput, match="beyond 6"):
        as_labels(np.array([2**63, 0], dtype=np.uint64))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([0.5, 1.0], "1 fractions"),
        ([math.inf, 1.0], "1 fractions or infinite"),
        (3, "labels is a int"),
        ("abc", "labels is a str"),
        ({"a": 1}, "labels is a dict"),
        ({"a", "b"}, "labels is a set"),
        (None, "labels is a NoneType"),
        (np.array(3), r"got shape \(\)"),
        (torch.tensor(3), r"got shape \(\)"),
        ([], "labels are empty.*positive number of samples"),
        (torch.eye(3), r"got shape \(3, 3\).*argmax"),
        (torch.zeros(3, 7, dtype=torch.long), r"labels of tokens.*token_all.*flattened"),
        ([[1], [2, 3]], "different lengths"),
        (["a", 1], "cannot be put in order"),
        ([1j, 2], "cannot be put in order"),
        (np.array([1j]), "complex"),
        (scipy.sparse.csr_matrix(np.eye(3)), r"sparse matrix.*toarray"),
        ([np.ma.masked, 1, np.ma.masked], "2 masked of 3"),
    ],
)
def test_what_is_no_class_for_each_sample_is_refused_with_a_remedy(raw: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        as_labels(raw)


def test_lengths_and_known_classes_are_checked() -> None:
    for raw in ([0, 1], torch.tensor([0, 1]), Labels(torch.tensor([0, 1]))):
        with pytest.raises(BadInput, match="labels has 2 entries, but there are 3 samples"):
            as_labels(raw, n=3)
    assert as_labels(["b", "a"], classes=("b", "c", "a")).codes.tolist() == [0, 2]
    with pytest.raises(BadInput, match="'d', which is none of the classes b, a"):
        as_labels(["b", "d"], classes=("b", "a"))


def test_groups_may_be_anything_that_can_be_put_in_order() -> None:
    assert as_groups([0.5, 0.25, 0.5]).tolist() == [1, 0, 1]
    assert as_groups(np.array([7, 3], dtype=np.uint8)).tolist() == [7, 3]
    assert as_groups(np.array([2**63 + 1, 2**63], dtype=np.uint64)).tolist() == [1, 0]
    assert as_groups(["s1", "s0"]).tolist() == [1, 0]


def test_levels_keep_their_own_kind() -> None:
    assert levels_of([22.5, 0.0], "angles")[0] == (0.0, 22.5)
    assert levels_of(["b", "a"], "conditions")[0] == ("a", "b")
    assert levels_of(range(3), "conditions")[1].tolist() == [0, 1, 2]
    day = datetime.date(2020, 1, 1)
    assert levels_of([day, day], "days")[0] == (day,)


def test_goals_are_classes_or_values() -> None:
    assert as_goal(["b", "a"]).tolist() == [1, 0]
    assert as_goal(np.array([3, 4])).dtype == torch.int64
    assert as_goal([1.0, -1.0]).tolist() == [1.0, -1.0]
    assert as_goal(pd.Series([1.5, 2.5])).tolist() == [1.5, 2.5]
    assert as_goal(np.eye(2)).shape == (2, 2)
    with pytest.raises(BadInput, match="2 masked"):
        as_goal(np.ma.masked_greater(np.eye(2), 0.5))
    with pytest.raises(BadInput, match="shape"):
        as_goal(torch.tensor(1.0))


def test_labels_stay_where_they_lie(device: str) -> None:
    for raw in (torch.tensor([1, 0], device=device), torch.tensor([1.0, 0.0], device=device)):
        assert as_labels(raw).codes.device.type == device
