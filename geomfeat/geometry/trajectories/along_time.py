"""Smoothing and derivatives along time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, in_floats


def derivative(x: Any, time: Any) -> Tensor:
    """(..., time, units) rate of change per second: central differences, one-sided in the first and last bin.

    Central differences are exact for a quadratic course, also of unequal steps. A bin's rate is made of the bins before
    and after it, so that a step between two bins is seen in both. Raises BadInput for fewer than two bins.

    >>> derivative([[0.0], [1.0], [4.0], [9.0]], [0.0, 1.0, 2.0, 3.0])[:, 0].tolist()
    [1.0, 2.0, 4.0, 5.0]
    """
    values, at = along_time(x, time)
    return torch.gradient(values, spacing=(at,), dim=-2)[0]


def smoothed(x: Any, time: Any, width: float) -> Tensor:
    """(..., time, units) averaged over time with Gaussian weights of standard deviation `width` seconds.

    Weights of the bins that there are sum to 1, so that a constant stays as it is up to the ends. Smoothing carries a
    signal to bins before its onset, by about two widths.

    >>> smoothed([[1.0], [1.0], [1.0]], [0.0, 0.1, 0.2], 0.1)[:, 0].tolist()
    [1.0, 1.0, 1.0]
    """
    values, at = along_time(x, time)
    if not width > 0:
        raise BadInput(f"width={width!r} must be a positive number of seconds")
    return torch.softmax(-0.5 * ((at[:, None] - at) / width).square(), 1) @ values


def along_time(x: Any, time: Any) -> tuple[Tensor, Tensor]:
    """x (..., time, units) and time (time,) in float64 on one device; BadInput where they do not fit."""
    values = in_floats(as_tensor(x, "x"), "x").to(WORKING)
    at = in_floats(as_tensor(time, "time"), "time").to(values.device, WORKING)
    if values.ndim < 2 or at.shape != values.shape[-2:-1] or len(at) < 2:
        raise BadInput(
            "x must be (..., time, units) with two bins or more, and time an entry for each: got "
            f"{tuple(values.shape)} and {tuple(at.shape)}"
        )
    if not bool((at.diff() > 0).all()):
        raise BadInput("time must increase")
    return values, at
