"""Balanced weights: what they multiply to, what they conserve, which shapes can have them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import balanced_factors, balanced_network, layer_balance

WIDTH = st.integers(1, 7)


@settings(max_examples=40, deadline=None)
@given(WIDTH, WIDTH, WIDTH, st.floats(-50, 50), st.integers(0, 99))
def test_every_feasible_network_is_balanced(inputs: int, hidden: int, outputs: int, balance: float, seed: int) -> None:
    if (balance > 0 and hidden > outputs) or (balance < 0 and hidden > inputs):
        with pytest.raises(BadInput, match="needs hidden <="):
            balanced_network(inputs, hidden, outputs, balance, seed=seed)
        return
    w1, w2 = balanced_network(inputs, hidden, outputs, balance, 0.5, seed=seed)
    off = w2.mT @ w2 - w1 @ w1.mT
    assert_close(off, balance * torch.eye(hidden, dtype=WORKING), rtol=1e-12, atol=1e-11)
    values = torch.linalg.svdvals(w2 @ w1)[: min(inputs, hidden, outputs)]
    assert_close(values, torch.full_like(values, 0.5), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("balance", [-1e6, -1.0, 0.0, 1e-9, 1e6])
def test_factors_multiply_to_the_product(balance: float) -> None:
    product = torch.randn(5, 6, generator=stream(0, "p"), dtype=WORKING)
    w1, w2 = balanced_factors(product, 5, balance)
    assert_close(w2 @ w1, product, rtol=1e-11, atol=1e-11)
    low = torch.outer(product[:, 0], product[0])
    w1, w2 = balanced_factors(low, 2, balance)
    assert_close(w2 @ w1, low, rtol=1e-8, atol=1e-7)


def test_balance_is_the_nearest_multiple_of_the_identity() -> None:
    w1, w2 = (torch.randn(shape, generator=stream(1, shape), dtype=WORKING) for shape in ((4, 6), (3, 4)))
    found = layer_balance(w1, w2)
    off = w2.mT @ w2 - w1 @ w1.mT
    size = (w2.mT @ w2).norm() + (w1 @ w1.mT).norm()
    for other in (found.value, found.value - 0.1, found.value + 0.1):
        distance = float((off - other * torch.eye(4, dtype=WORKING)).norm() / size)
        assert distance == pytest.approx(found.residual) if other == found.value else distance > found.residual


def test_shared_seeds_share_directions_and_others_do_not() -> None:
    a, b, c = (balanced_network(4, 3, 3, 0.0, [0.3, 0.2, 0.1], seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.allclose(a, c)


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadInput, match="rank 4, and hidden=2"):
        balanced_factors(torch.eye(4), 2, 0.0)
    with pytest.raises(BadInput, match="at least 1"):
        balanced_network(3, 0, 3, 0.0)
    with pytest.raises(BadInput, match="finite"):
        balanced_network(3, 3, 3, float("inf"))
    with pytest.raises(BadInput, match="singular_values"):
        balanced_network(3, 2, 3, 0.0, [1.0, 1.0, 1.0])
    with pytest.raises(BadInput, match="share the hidden width"):
        layer_balance(torch.eye(3), torch.eye(2))
