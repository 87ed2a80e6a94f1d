"""mle_dimension as a registered measure."""

from __future__ import annotations

import torch

from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


def test_a_plane_in_many_units_reads_two():
    flat = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = get("mle_dimension").run(Representation(flat @ normal(2, 30, seed=1)), k=8)["mle_dimension"]
    assert abs(found.value - 2) < 4 * found.stderr


def test_copies_are_told_in_the_note_and_too_many_neighbours_fail():
    rep = Representation(normal(30, 3).repeat(2, 1))
    assert "30 copies" in get("mle_dimension").run(rep)["mle_dimension"].note
    assert "needs at least 41" in get("mle_dimension").run(rep, k=40)["mle_dimension"].note
