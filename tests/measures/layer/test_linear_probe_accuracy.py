"""linear_probe_accuracy as a registered measure."""

from __future__ import annotations

import torch

from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


def test_two_gaussians_reach_the_bayes_accuracy():
    labels = torch.arange(2000) % 2
    x = normal(2000, 3)
    x[:, 0] += 2 * labels
    found = get("linear_probe_accuracy").run(Representation(x, labels))["linear_probe_accuracy"]
    assert abs(found.value - 0.8413) < 4 * found.stderr
    assert "chance 0.500 (the largest class)" in found.note


def test_a_class_smaller_than_the_folds_fails_with_the_remedy():
    labels = (torch.arange(30) < 3).long()
    found = get("linear_probe_accuracy").run(Representation(normal(30, 3), labels))["linear_probe_accuracy"]
    assert not found.ok
    assert "3 samples, fewer than 5 folds" in found.note
