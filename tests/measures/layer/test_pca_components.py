"""pca_components as a registered measure."""

from __future__ import annotations

import torch

from geomfeat.registry import get
from geomfeat.types import Representation


def test_an_exact_spectrum_is_counted():
    x = torch.diag(torch.tensor([80.0, 8.0, 5.0, 4.0, 2.0, 1.0], dtype=torch.float64).sqrt())
    found = get("pca_components").run(Representation(torch.cat([x, -x])))
    assert [int(e.value) for e in found.values()] == [1, 3, 4, 5]


def test_a_constant_layer_fails_with_a_reason():
    found = get("pca_components").run(Representation(torch.ones(5, 3)))
    assert all(not e.ok and "coincide" in e.note for e in found.values())
