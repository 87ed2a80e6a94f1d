"""Regimes of modes: exact pairs, the definition, and trained pairs whose start is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import mode_regimes
from tests.reference import mixed as reference


def matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "matrix", *shape), dtype=WORKING)


def trained(sigma: float, strengths: list[float], width: int, imbalance: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Both layers after gradient descent, from N(0, sigma^2), the second layer's times `imbalance`."""
    d = len(strengths)
    w1, w2 = sigma / imbalance * matrix(width, d, seed=1), sigma * imbalance * matrix(d, width, seed=2)
    y = torch.diag(torch.tensor(strengths, dtype=WORKING))
    rate = 0.05 / (max(strengths) + sigma**2 * width * (imbalance**2 + imbalance**-2))
    for _ in range(2000):
        gap = w2 @ w1 - y
        w1, w2 = w1 - rate * w2.mT @ gap, w2 - rate * gap @ w1.mT
    return w1, w2


@pytest.mark.parametrize(("width", "inputs", "outputs"), [(9, 4, 4), (3, 5, 6), (20, 2, 7)])
def test_equals_the_definition(width: int, inputs: int, outputs: int, device: str) -> None:
    w1, w2 = matrix(width, inputs), matrix(outputs, width, seed=1)
    s, rho = reference.mode_ratio(w1.numpy(), w2.numpy())
    found = mode_regimes(w1.to(device), w2.to(device))
    np.testing.assert_allclose(found.strengths.cpu(), s, rtol=1e-10)
    np.testing.assert_allclose(found.rho.cpu(), rho, rtol=1e-8)


def test_a_balanced_pair_is_rich_and_orthogonal_weights_are_lazy() -> None:
    u, v, r = (torch.linalg.qr(matrix(4, 4, seed=i)).Q for i in range(3))
    s = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=WORKING).sqrt()
    balanced = mode_regimes((r * s) @ v, (u * s) @ r.mT)
    assert balanced.rich.all()
    torch.testing.assert_close(balanced.imbalance, torch.zeros(4, dtype=WORKING), atol=1e-12, rtol=0)
    # p and q of unit length at an angle: s is its cosine, rho its cotangent.
    angle = 1.4
    p, q = torch.tensor([[1.0], [0.0]]), torch.tensor([[np.cos(angle), np.sin(angle)]])
    assert float(mode_regimes(p, q).rho) == pytest.approx(1 / np.tan(angle), rel=1e-6)
    assert mode_regimes(p, q).lazy.all()


@pytest.mark.parametrize("imbalance", [1.0, 1.5])
def test_reads_the_threshold_of_a_trained_pair(imbalance: float) -> None:
    """rho is s / c, c half the sum of the two layers' squared size at the start, for modes on both sides of it."""
    width, strengths = 4000, [30.0, 10.0, 3.0, 1.0, 0.3, 0.1]
    sigma = (1.0 / width) ** 0.5
    threshold = sigma**2 * width * (imbalance**2 + imbalance**-2) / 2
    found = mode_regimes(*trained(sigma, strengths, width, imbalance))
    decades = torch.log10(found.rho / (found.strengths / threshold))
    assert float(decades.abs().median()) < 0.033
    assert float(decades.abs().max()) < 0.1
    assert found.rich[:2].all()
    assert not found.rich[3:].any()
    assert found.lazy.tolist() == [*[False] * 4, True, True]


def test_modes_of_rounding_are_left_out() -> None:
    found = mode_regimes(torch.outer(matrix(6), matrix(5)), matrix(4, 6, seed=1))
    assert len(found.rho) == 1


def test_a_pair_of_zeros_has_no_modes() -> None:
    assert len(mode_regimes(torch.zeros(3, 2), torch.zeros(2, 3)).rho) == 0


def test_scales_and_rotations_do_not_matter() -> None:
    w1, w2 = matrix(9, 4), matrix(3, 9, seed=1)
    turn = torch.linalg.qr(matrix(9, 9, seed=2)).Q
    for other in (mode_regimes(3 * w1, 3 * w2), mode_regimes(turn @ w1, w2 @ turn.mT)):
        torch.testing.assert_close(other.rho, mode_regimes(w1, w2).rho)


def test_layers_that_do_not_meet_are_bad_input() -> None:
    with pytest.raises(BadInput, match="hidden width"):
        mode_regimes(torch.ones(3, 2), torch.ones(2, 4))
    with pytest.raises(BadInput, match="NaN"):
        mode_regimes(torch.full((2, 2), float("nan")), torch.eye(2))
