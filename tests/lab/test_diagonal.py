"""Diagonal networks at the small size, and the theory of their solutions against descent, limits and definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from geomfeat.lab.diagonal import Diagonal
from geomfeat.lab.result import Findings
from geomfeat.lab.theory.diagonal_networks import flow, least_l1, on_path, predicted, product, regulariser
from tests.lab.small_runs import small_run

DRAW = np.random.default_rng(3)
X, Y = DRAW.standard_normal((3, 6)), DRAW.standard_normal(3)


def equal(alpha: float) -> tuple[np.ndarray, np.ndarray]:
    return np.full(6, alpha), np.full(6, alpha)


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("diagonal")


def test_the_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 19


def test_the_passage_runs_from_one_norm_to_the_other(found: Findings) -> None:
    table: Any = found.table[found.table["shape"] == "equal"]
    for _, part in table.groupby(["depth", "draw"]):
        assert (np.diff(part["passage"]) < 0).all(), "in order of falling alpha"
        assert part["passage"].iloc[0] > 0.9
        assert part["passage"].iloc[-1] < 0.15
        assert (np.diff(part["gap"]) > 0).all()


@pytest.mark.parametrize("depth", [2, 3])
def test_descent_of_the_module_finds_the_solution_of_theory(depth: int) -> None:
    start = 0.5 * np.ones(6), np.linspace(0.3, 0.8, 6)
    model, x, y = Diagonal(start, depth), torch.tensor(X), torch.tensor(Y)
    assert np.allclose(model(x).detach().numpy()[:, 0], X @ product(start, depth), atol=1e-12)
    optimizer = torch.optim.SGD(model.parameters(), lr=4e-3)
    for _ in range(1000):
        optimizer.zero_grad()
        ((model(x)[:, 0] - y).square().sum() / 2).backward()
        optimizer.step()
    trained = product((model.u.detach().numpy(), model.v.detach().numpy()), depth)
    # Descent differs from the flow by a share of about the rate times the curvature.
    assert trained == pytest.approx(product(predicted(X, Y, start, depth), depth), abs=0.01)
    assert product(flow(X, Y, start, depth), depth) == pytest.approx(
        product(predicted(X, Y, start, depth), depth), abs=1e-4
    )


def test_the_solution_has_the_least_regulariser_of_all_that_fit() -> None:
    start = equal(0.4)
    beta = product(predicted(X, Y, start, 2), 2)
    assert pytest.approx(Y, abs=1e-8) == X @ beta
    free = np.linalg.svd(X)[2][3:]
    for direction in (*free, *-free):
        assert regulariser(beta + 0.05 * direction, 0.4) > regulariser(beta, 0.4)


def test_the_limits_are_the_two_norms() -> None:
    assert product(predicted(X, Y, equal(30.0), 2), 2) == pytest.approx(np.linalg.pinv(X) @ Y, abs=1e-5)
    assert product(predicted(X, Y, equal(0.005), 3), 3) == pytest.approx(least_l1(X, Y), abs=1e-3)


def test_paths_of_depth_three_end() -> None:
    """u^-1 = alpha^-1 - 3 S reaches zero."""
    assert on_path(np.full(6, 0.5), equal(1.0), 3) is None
    inside = on_path(np.full(6, 0.2), equal(1.0), 3)
    assert inside is not None
    assert inside[0] == pytest.approx(np.full(6, 2.5))
