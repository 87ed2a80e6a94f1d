"""correlation_dimension as a registered measure."""

from __future__ import annotations

import torch

from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


def test_a_plane_in_many_units_reads_two():
    flat = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = get("correlation_dimension").run(Representation(flat @ normal(2, 30, seed=1)), k=(4, 8))
    assert abs(found["correlation_dimension"].value - 2) < 4 * found["correlation_dimension"].stderr


def test_samples_at_equal_distances_fail_with_a_reason():
    found = get("correlation_dimension").run(Representation(torch.eye(40)))["correlation_dimension"]
    assert not found.ok
    assert "one median distance" in found.note
