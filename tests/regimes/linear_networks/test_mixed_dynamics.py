"""Mixed dynamics: closed forms of a single mode, the definition, and gradient descent where neither limit is near."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import activity_threshold, descend_products, mixed_flow, n_active, random_products
from geomfeat.regimes.linear_networks.mixed_dynamics import mixed_velocity
from tests.reference import mixed as reference


def matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "matrix", *shape), dtype=WORKING)


def target(d: int, strengths: torch.Tensor) -> torch.Tensor:
    left, right = (torch.linalg.qr(matrix(d, d, seed=i)).Q for i in (1, 2))
    return (left * strengths) @ right


def relative(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    return (found - true).norm(dim=(-2, -1)) / true.norm(dim=(-2, -1))


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 3), (1, 5)])
@pytest.mark.parametrize("threshold", [0.01, 0.3, 20.0])
def test_velocity_equals_the_definition(shape: tuple[int, int], threshold: float, device: str) -> None:
    a, y = matrix(*shape), matrix(*shape, seed=1)
    expected = reference.velocity(a.numpy(), y.numpy(), threshold)
    found = mixed_velocity(a.to(device), y.to(device), threshold)
    torch.testing.assert_close(found.cpu(), torch.as_tensor(expected), rtol=1e-10, atol=1e-10)


def test_a_rank_deficient_map_moves_too() -> None:
    a, y = torch.outer(matrix(4), matrix(3, seed=1)), matrix(4, 3, seed=2)
    for threshold in (0.0, 1e-3):
        expected = torch.as_tensor(reference.velocity(a.numpy(), y.numpy(), threshold))
        # The reference takes the root of a matrix that is singular to rounding, 1e-16: half the digits are left.
        torch.testing.assert_close(mixed_velocity(a, y, threshold), expected, rtol=1e-7, atol=1e-7)


def test_one_balanced_mode_is_the_sigmoid() -> None:
    # ds/dt = 2 s (y - s): Saxe et al. 2014, equation 7.
    start, y, times = 0.01, 3.0, [0.3, 0.8, 2.0]
    found = mixed_flow(torch.tensor([[start]], dtype=WORKING), torch.tensor([[y]]), 0.0, times)
    exact = [y / (1 + (y / start - 1) * np.exp(-2 * y * t)) for t in times]
    assert found.flatten().tolist() == pytest.approx(exact, rel=1e-4)


def test_one_lazy_mode_is_an_exponential() -> None:
    found = mixed_flow(torch.tensor([[0.2]], dtype=WORKING), torch.tensor([[1.0]]), 1e4, [2e-5, 1e-4])
    exact = [1 - 0.8 * np.exp(-2e4 * t) for t in (2e-5, 1e-4)]
    assert found.flatten().tolist() == pytest.approx(exact, rel=1e-4)


def test_one_mixed_mode_arrives_when_its_integral_says() -> None:
    # t = int ds / (2 sqrt(s^2 + c^2) (y - s)) from 0 to s, by the midpoint rule.
    c, y, end = 0.7, 2.0, 1.5
    s = (np.arange(200_000) + 0.5) * end / 200_000
    time = float((end / 200_000 / (2 * np.sqrt(s**2 + c**2) * (y - s))).sum())
    found = mixed_flow(torch.zeros(1, 1, dtype=WORKING), torch.tensor([[y]]), c, [time])
    assert float(found) == pytest.approx(end, rel=1e-5)


def test_networks_side_by_side_are_those_one_by_one() -> None:
    starts, y, times = matrix(3, 2, 4), matrix(3, 2, 4, seed=1), [0.1, 0.5]
    thresholds = torch.tensor([0.0, 0.5, 3.0], dtype=WORKING)
    together = mixed_flow(starts, y, thresholds, times)
    assert together.shape == (2, 3, 2, 4)
    for k, c in enumerate(thresholds.tolist()):
        torch.testing.assert_close(together[:, k], mixed_flow(starts[k], y[k], c, times), rtol=1e-5, atol=1e-5)


def test_near_gradient_descent_where_neither_limit_is() -> None:
    d, width, c, rate = 10, 100_000, 1.0, 1e-3
    steps = [30, 100, 200, 400, 800, 1600]
    start = random_products(d, d, width, (c / width) ** 0.5)
    y = target(d, torch.logspace(1, -1, d, dtype=WORKING))
    exact = torch.stack([p.map for p in descend_products(start, y, rate, steps)])
    times = [rate * k for k in steps]
    balanced = mixed_flow(start.map, y, 0.0, times)
    lazy = torch.stack([y + (start.map - y) * np.exp(-2 * c * t) for t in times])
    assert float(relative(mixed_flow(start.map, y, c, times), exact).max()) < 0.02
    assert float(relative(lazy, exact).max()) > 0.3
    assert float(relative(balanced, exact).max()) > 0.6


@pytest.mark.parametrize("width", [1_000, 10_000_000])
def test_the_error_falls_with_the_root_of_the_width(width: int) -> None:
    d, c, rate, steps = 10, 1.0, 2e-3, [15, 50, 100, 200]
    start = random_products(d, d, width, (c / width) ** 0.5)
    y = target(d, torch.logspace(1, -1, d, dtype=WORKING))
    exact = torch.stack([p.map for p in descend_products(start, y, rate, steps)])
    error = float(relative(mixed_flow(start.map, y, c, [rate * k for k in steps]), exact).max())
    assert error < 1.2 * (d / width) ** 0.5 + 4 * rate


def test_active_modes_are_those_above_the_threshold() -> None:
    y = target(6, torch.tensor([9.0, 5.0, 2.1, 1.9, 0.4, 0.0], dtype=WORKING))
    assert activity_threshold(0.01, 20_000) == pytest.approx(2.0)
    assert int(n_active(y, 2.0)) == 3
    assert n_active(torch.stack([y, 0.1 * y]), 0.3).tolist() == [5, 2]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: activity_threshold(0.0, 5), "sigma"),
        (lambda: activity_threshold(1.0, 0), "width"),
        (lambda: mixed_flow(torch.ones(2, 3), torch.ones(3, 2), 1.0, [1.0]), "shape"),
        (lambda: mixed_flow(torch.ones(2, 2), torch.ones(2, 2), -1.0, [1.0]), "threshold"),
        (lambda: mixed_flow(torch.ones(3, 2, 2), torch.ones(3, 2, 2), torch.ones(2), [1.0]), "one for each of the"),
        (lambda: mixed_flow(torch.ones(2, 2), torch.ones(2, 2), 1.0, [1.0, 1.0]), "times"),
        (lambda: mixed_flow(torch.ones(2, 2), torch.ones(2, 2), 1.0, []), "times"),
        (lambda: mixed_flow(torch.ones(2, 2), torch.ones(2, 2), 1.0, [math.nan]), "times"),
        (lambda: mixed_flow(torch.ones(2, 2), torch.ones(2, 2), 1.0, [1.0, math.inf]), "times"),
        (lambda: mixed_flow(torch.full((2, 2), math.nan), torch.ones(2, 2), 1.0, [1.0]), "start holds 4 NaN"),
        (lambda: mixed_flow(torch.ones(2, 2), torch.full((2, 2), math.inf), 1.0, [1.0]), "target holds"),
        (lambda: n_active(torch.full((2, 2), math.nan), 1.0), "matrix holds 4 NaN"),
        (lambda: n_active(torch.eye(2), math.nan), "threshold"),
    ],
)
def test_bad_input_is_named(call, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        call()
