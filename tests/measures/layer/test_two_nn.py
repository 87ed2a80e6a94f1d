"""two_nn as a registered measure."""

from __future__ import annotations

import pytest
import torch

from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


@pytest.mark.parametrize("method", ["mle", "linear"])
def test_a_plane_in_many_units_reads_two(method: str):
    found = get("two_nn").run(Representation(normal(800, 2) @ normal(2, 40, seed=1)), method=method)["two_nn"]
    assert abs(found.value - 2) < 4 * found.stderr
    assert found.note == ""


def test_copies_are_told_in_the_note():
    rep = Representation(normal(50, 3))
    twice = get("two_nn").run(rep.take(torch.arange(50).repeat(2)))["two_nn"]
    assert twice.value == get("two_nn").run(rep)["two_nn"].value
    assert "50 copies" in twice.note
