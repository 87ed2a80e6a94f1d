"""nc1 as a registered measure."""

from __future__ import annotations

import torch

from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


def test_isotropic_noise_around_a_simplex_within_the_error():
    labels = torch.arange(1200) % 4
    x = torch.eye(4, dtype=torch.float64)[labels] + 0.3 * normal(1200, 4)
    found = get("nc1").run(Representation(x, labels))["nc1"]
    assert abs(found.value - 0.09 * 3) < 4 * found.stderr
    assert found.stderr < 0.03


def test_single_samples_are_reported_in_the_note():
    labels = (torch.arange(20) == 0).long()
    assert "1 classes have a single sample" in get("nc1").run(Representation(normal(20, 3), labels))["nc1"].note
