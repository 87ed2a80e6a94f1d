"""Finished parts: addressed by content, whole or not there, surviving an interruption in mid-write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from geomfeat.study.parts import FINISHED, Parts, fingerprint


def test_what_differs_has_another_address() -> None:
    t = torch.arange(6.0)
    things = [
        t, t + 1e-6, t.reshape(2, 3), t.double(), t.int(), t[:5], {"a": t}, {"b": t}, [t], [t, t], (), "a", "1", 1,
        1.0, None, True, {"a": {"b": 1}}, {"a": {"c": 1}}, [["a"], "b"], [["a", "b"]], torch.zeros(0),
    ]  # fmt: skip
    assert len({fingerprint(thing) for thing in things}) == len(things)


def test_what_is_the_same_has_the_same_address() -> None:
    t = torch.randn(4, 6)
    assert fingerprint(t) == fingerprint(t.clone()) == fingerprint(t.numpy()) == fingerprint(t.mT.contiguous().mT)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_a_module_is_its_weights_and_buffers() -> None:
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    assert fingerprint(a) == fingerprint(b)
    b.running_mean += 1  # type: ignore[operator]
    assert fingerprint(a) != fingerprint(b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int64, torch.complex64])
def test_every_kind_of_tensor_has_an_address(dtype: torch.dtype) -> None:
    assert fingerprint(torch.ones(3).to(dtype)) != fingerprint(torch.zeros(3).to(dtype))


def test_parts_come_back_in_another_process(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    parts.put("a", [{"value": float("nan"), "n": 3}])
    parts.put_arrays("b" * 64, {"x": np.arange(3)})
    again = Parts(tmp_path / "parts")
    assert again.get("a")[0]["n"] == 3
    kept = again.get_arrays("b" * 64)
    assert kept is not None
    np.testing.assert_array_equal(kept["x"], np.arange(3))
    assert again.get("c") is None
    assert again.get_arrays("c" * 64) is None


def test_nothing_is_written_before_something_is_finished(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    assert parts.get("a") is None
    assert not (tmp_path / "parts").exists()


def test_a_line_that_was_cut_off_costs_that_part_only(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.put("a", 1)
    parts.put("b", 2)
    file = tmp_path / FINISHED
    file.write_bytes(file.read_bytes()[:-4])
    again = Parts(tmp_path)
    assert (again.get("a"), again.get("b")) == (1, None)
    again.put("c", 3)
    last = Parts(tmp_path)
    assert [last.get(k) for k in "abc"] == [1, None, 3], "a new part does not end up on the line that was cut off"


def test_without_a_folder_nothing_is_kept() -> None:
    parts = Parts()
    parts.put("a", 1)
    parts.put_arrays("a", {"x": np.ones(1)})
    assert parts.get("a") is None
    assert parts.get_arrays("a") is None
