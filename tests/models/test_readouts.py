"""Readouts by name: from a module or a file, and refusals that say what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.models.readouts import as_readout


def test_a_function_and_none_stay_as_they_are() -> None:
    def last(output: object, inputs: object) -> object:
        return output

    assert as_readout(last) is last
    assert as_readout(None) is None


def test_a_function_of_a_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def last(output, inputs):\n    return output[:, -1]\n")
    assert as_readout(f"{path}:last")(torch.arange(6).reshape(2, 3), None).tolist() == [2, 5]


@pytest.mark.parametrize(
    ("readout", "message"),
    [
        ("last", r"readout='last' must look like"),
        ("no_such_package_here:last", "readout: no module 'no_such_package_here'"),
        ("operator:getitems", "has no 'getitems'; near: .*getitem"),
        ("math:pi", "is a float, not a function"),
        (3, "readout=3 must be a function"),
    ],
)
def test_what_is_no_readout_is_refused(readout: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        as_readout(readout)  # type: ignore[arg-type]
