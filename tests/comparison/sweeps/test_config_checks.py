"""What is refused of a sweep before it trains: options that overrule its conditions, layers that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geomfeat.comparison.sweeps._sweep import planned, sweep
from geomfeat.errors import BadInput
from tests.comparison.sweeps_on_disk import tiny


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"options": {"init_scale": 3.0}}, "options: init_scale is a condition of the sweep: give it as sigma"),
        ({"options": {"seed": 3}}, "seed is a condition of the sweep: give it as seeds"),
        ({"options": {"parameterization": "ntk"}}, "give it as parameterization"),
        ({"options": {"hidden": [3, 4]}, "width": [8, 16]}, r"hidden sets .* width=\[8, 16\] would vary nothing"),
        ({"options": {"hidden": [3]}}, r"hidden=\[3\] is 1 layers, and depth=2: give depth: 1 too"),
        ({"architecture": "vgg", "options": {"convs": 1}, "depth": [1, 2]}, r"depth=\[1, 2\] would vary nothing"),
        ({"architecture": "rate_rnn", "rank": 2, "options": {"rank": 3}}, "options: rank is an axis too: give it once"),
        ({"measure": {"layers": ["fc1", "nope"]}}, r"measure\.layers of mlp, depth 2: no layer matches 'nope'"),
        ({"width": 10**9}, r"cannot be built here .*: lower width or depth"),
    ],
)  # fmt: skip
def test_it_is_refused_with_a_remedy(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=words):
        sweep(tiny(**config), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "config",
    [
        {"options": {"hidden": [3, 4]}},
        {"architecture": "vgg", "options": {"channels": [3, 4]}, "depth": [1, 2], "width": 4},
        {"measure": {"layers": ["fc1", "type:ReLU"]}},
    ],
)
def test_options_that_leave_the_conditions_as_they_are_go_through(config: dict[str, Any], tmp_path: Path) -> None:
    assert planned(tiny(**config), tmp_path).plan
