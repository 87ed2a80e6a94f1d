"""Derivatives and smoothing along time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from geomfeat.errors import BadInput
from geomfeat.geometry.trajectories import derivative, smoothed
from geomfeat.numerics import stream

TIME = torch.tensor([0.0, 0.1, 0.3, 0.4, 0.8], dtype=torch.float64)


def test_a_quadratic_course_has_its_exact_rate_inside() -> None:
    x = torch.stack([3 * TIME**2 - TIME, 2 * TIME], 1)
    found = derivative(x, TIME)
    torch.testing.assert_close(found[1:-1], torch.stack([6 * TIME - 1, torch.full_like(TIME, 2)], 1)[1:-1])
    np.testing.assert_allclose(found, np.gradient(x.numpy(), TIME.numpy(), axis=0))


def test_smoothing_is_that_of_scipy_inside_and_keeps_constants() -> None:
    x = torch.randn(60, 3, generator=stream(0, "smooth"), dtype=torch.float64)
    found = smoothed(x, 0.1 * torch.arange(60), 0.2)
    np.testing.assert_allclose(found[12:-12], gaussian_filter1d(x.numpy(), 2.0, axis=0, truncate=6)[12:-12], atol=1e-6)
    torch.testing.assert_close(smoothed(torch.ones(5, 2), TIME, 0.3), torch.ones(5, 2, dtype=torch.float64))


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadInput, match="positive number of seconds"):
        smoothed(torch.ones(5, 2), TIME, 0.0)
    with pytest.raises(BadInput, match="time must increase"):
        derivative(torch.ones(5, 2), TIME.flip(0))
    with pytest.raises(BadInput, match="two bins or more"):
        derivative(torch.ones(1, 2), [0.0])
