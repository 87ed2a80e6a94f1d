"""power_law_exponent as a registered measure."""

from __future__ import annotations

import pytest
import torch

from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


def test_exact_power_law_with_range_and_quality():
    x = torch.diag(torch.arange(1, 101, dtype=torch.float64) ** -0.75)
    found = get("power_law_exponent").run(Representation(torch.cat([x, -x])))
    assert found["exponent"].value == pytest.approx(1.5, abs=1e-9)
    assert found["r2"].value == pytest.approx(1.0)
    assert (found["first_rank"].value, found["last_rank"].value) == (5, 50)


def test_gaussian_samples_read_the_exponent_within_their_error():
    x = normal(2000, 100) * torch.arange(1, 101, dtype=torch.float64) ** -0.5
    found = get("power_law_exponent").run(Representation(x))
    assert abs(found["exponent"].value - 1.0) < 4 * found["exponent"].stderr + 0.05  # .05: bias of n = 20 d
    assert found["r2"].value > 0.98


def test_too_few_eigenvalues_fail_every_quantity():
    found = get("power_law_exponent").run(Representation(normal(30, 3)))
    assert all(not e.ok and "at least 5 ranks" in e.note for e in found.values())
