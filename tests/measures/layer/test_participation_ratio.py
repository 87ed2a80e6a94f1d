"""participation_ratio as a registered measure: known answers with errors."""

from __future__ import annotations

import pytest
import torch

from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


@pytest.mark.parametrize("d", [1, 2, 7])
def test_even_variance_in_d_directions_reads_d(d: int):
    cross = torch.cat([torch.eye(d), -torch.eye(d)]).double() @ torch.linalg.qr(normal(9, 9))[0][:d]
    assert get("participation_ratio").run(Representation(3 * cross + 1))["participation_ratio"].value == pytest.approx(
        d, rel=1e-9
    )


def test_error_covers_a_second_sample():
    a, b = (
        get("participation_ratio").run(Representation(normal(300, 10, seed=s)))["participation_ratio"] for s in (0, 1)
    )
    assert 0 < a.stderr < 0.5
    assert abs(a.value - b.value) < 4 * (a.stderr**2 + b.stderr**2) ** 0.5
