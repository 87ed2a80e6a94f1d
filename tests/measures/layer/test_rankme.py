"""rankme as a registered measure."""

from __future__ import annotations

import pytest
import torch

from geomfeat.registry import get
from geomfeat.types import Representation


def test_the_mean_counts_as_a_direction_of_its_own():
    # Centred singular values 1, 1, 1; with the mean, a fourth one of 1.
    ball = torch.cat([torch.eye(3), -torch.eye(3)]).double() / 2**0.5
    found = get("rankme").run(Representation(torch.cat([ball, torch.full((6, 1), 6**-0.5)], 1)))
    assert found["centred"].value == pytest.approx(3, rel=1e-6)
    assert found["uncentred"].value == pytest.approx(4, rel=1e-6)


def test_a_dead_layer_fails_with_a_reason():
    found = get("rankme").run(Representation(torch.zeros(5, 3)))
    assert all(not e.ok and "zero" in e.note for e in found.values())
