"""Readouts by name: from a module or a file, and refusals that say what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from geomfeat.activations import ExtractOptions, extract
from geomfeat.errors import BadInput
from geomfeat.models.readouts.reading import as_readout
from geomfeat.tangent import ntk


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
        ("lasst", "readout='lasst' is not known; near: .*last"),
        ("no_such_package_here:last", "readout: no module 'no_such_package_here'"),
        ("operator:getitems", "has no 'getitems'; near: .*getitem"),
        ("math:pi", "is a float, not a function"),
        (3, "readout=3 must be a function"),
    ],
)
def test_what_is_no_readout_is_refused(readout: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        as_readout(readout)  # type: ignore[arg-type]


def _net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def test_extract_and_kernels_take_a_readout_by_name(tmp_path: Path) -> None:
    path, net, x = tmp_path / "mine.py", _net(), torch.randn(5, 3)
    path.write_text("def last(output, inputs):\n    return output[:, -1:]\n")
    named, last = f"{path}:last", lambda output, inputs: output[:, -1:]
    found = extract(net, x, layers="0", progress=False, options=ExtractOptions(with_outputs=True, readout=named))[
        "0"
    ].outputs
    expected = extract(net, x, layers="0", progress=False, options=ExtractOptions(with_outputs=True, readout=last))[
        "0"
    ].outputs
    assert found is not None
    assert expected is not None
    assert found.tolist() == expected.tolist()
    assert ntk(net, x, readout=named).gram.tolist() == ntk(net, x, readout=last).gram.tolist()


@pytest.mark.parametrize(
    ("readout", "message"),
    [
        (lambda output: output, r"called as readout\(output, inputs\).*must return a tensor \(n, \.\.\.\)"),
        (lambda output, inputs: output["logits"], r"output a Tensor \(2, 2\), failed \(IndexError.*must return"),
        (lambda output, inputs: output.nothing, "failed .AttributeError.*must return"),
        (lambda output, inputs: output[:1], "1 rows for 2 samples: it must return"),
        (lambda output, inputs: {"a": output}, "returned dict with keys 'a', not a tensor: it must return"),
    ],
)
def test_a_readout_that_cannot_be_used_is_refused_with_what_it_must_do(readout: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ntk(_net(), torch.ones(4, 3), readout=readout)
