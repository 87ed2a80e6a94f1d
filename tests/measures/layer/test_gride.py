"""gride as a registered measure."""

from __future__ import annotations

import torch

from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal

SCALES = ["dimension_2", "dimension_4", "dimension_8", "dimension_16", "dimension_32"]


def test_a_plane_in_many_units_reads_two_at_every_scale():
    flat = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = get("gride").run(Representation(flat @ normal(2, 30, seed=1)))
    assert list(found) == SCALES
    # Edges of the square take away up to a tenth of a dimension at 32 of 1000 neighbours.
    assert all(abs(e.value - 2) < 4 * e.stderr + 0.1 for e in found.values())


def test_scales_beyond_the_samples_are_failed_rows():
    found = get("gride").run(Representation(normal(20, 3).repeat(2, 1)))
    assert [found[s].ok for s in SCALES] == [True, True, True, True, False]
    assert "20 different samples have no 32 neighbours" in found["dimension_32"].note
    assert "20 copies" in found["dimension_2"].note


def test_a_lattice_fails_where_all_distances_are_equal():
    angle = torch.arange(60, dtype=torch.float64) * 2 * torch.pi / 60
    found = get("gride").run(Representation(torch.stack([angle.cos(), angle.sin()], 1)))
    assert not found["dimension_2"].ok
    assert found["dimension_16"].ok
