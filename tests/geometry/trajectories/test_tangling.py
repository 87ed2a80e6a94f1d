"""Tangling of a circle and a figure of eight in closed form, and against the definition in two loops."""

from __future__ import annotations

import math

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.trajectories import derivative, tangling
from geomfeat.numerics import stream

ANGLE = torch.linspace(0, 2 * math.pi, 801, dtype=torch.float64)


def test_a_circle_at_constant_speed_has_the_tangling_of_its_diameter() -> None:
    """|x' - x''|^2 = w^2 |x - x''|^2, so Q = w^2 4 r^2 / (4 r^2 + r^2 / 10)."""
    r, w = 3.0, 2.0
    circle = r * torch.stack([(w * ANGLE).cos(), (w * ANGLE).sin()], 1)
    q = tangling(circle[None], ANGLE)[0, 2:-2]
    assert q.min() > 0.99 * w**2 * 4 / 4.1
    assert q.max() < 1.01 * w**2 * 4 / 4.1
    assert derivative(circle, ANGLE)[2:-2].norm(dim=1).sub(r * w).abs().max() < 1e-3 * r * w


def test_a_figure_of_eight_is_tangled_where_it_crosses_itself() -> None:
    """At (0, 0) it moves by (-1, -2) and by (1, -2): 4 over a tenth of the mean square, which is 1."""
    eight = torch.stack([ANGLE.cos(), (2 * ANGLE).sin()], 1)
    q = tangling(eight[None], ANGLE)[0]
    assert float(q[200]) == pytest.approx(40, rel=0.01)
    circle = tangling(torch.stack([ANGLE.cos(), ANGLE.sin()], 1)[None], ANGLE)[0]
    assert float(q.median()) > 10 * float(circle.median())


def test_it_is_the_definition_over_all_times_of_all_conditions(device: str) -> None:
    x, time = torch.randn(3, 7, 4, generator=stream(0, "q"), dtype=torch.float64), torch.arange(7).double() ** 1.2
    rate = derivative(x, time)
    centre = x.mean((0, 1))
    softening = 0.1 * sum(float((x[c, t] - centre).square().sum()) for c in range(3) for t in range(7)) / 21
    wanted = torch.zeros(3, 7, dtype=torch.float64)
    for c in range(3):
        for t in range(7):
            for c2 in range(3):
                for t2 in range(7):
                    apart = float((x[c, t] - x[c2, t2]).square().sum()) + softening
                    wanted[c, t] = max(float(wanted[c, t]), float((rate[c, t] - rate[c2, t2]).square().sum()) / apart)
    torch.testing.assert_close(tangling(x.to(device), time).cpu(), wanted, rtol=1e-6, atol=1e-9)


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadInput, match="never change"):
        tangling(torch.ones(2, 4, 3), [0.0, 1.0, 2.0, 3.0])
    with pytest.raises(BadInput, match="conditions, time, units"):
        tangling(torch.rand(4, 3), [0.0, 1.0, 2.0, 3.0])
