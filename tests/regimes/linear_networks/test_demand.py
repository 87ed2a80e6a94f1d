"""Closed forms of demand in two-layer linear networks, against the measured demand and against each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.location.demand import linearised_task, solve
from geomfeat.models.functional import functional
from geomfeat.models.linear import linear
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import balanced_demand, balanced_network, one_mode_demand
from tests.reference import demand as reference


def drawn(*shape: int, name: str) -> Tensor:
    return torch.randn(*shape, generator=stream(0, "test linear demand", name), dtype=WORKING)


def network(w1: Tensor, w2: Tensor) -> nn.Module:
    model = linear(w1.shape[1], (w1.shape[0],), w2.shape[0]).to(WORKING)
    with torch.no_grad():
        model.get_parameter("fc1.weight").copy_(w1)
        model.get_parameter("head.weight").copy_(w2)
    return model


def measured(w1: Tensor, w2: Tensor, change: Tensor, share_left: float = 0.01) -> float:
    task = linearised_task(functional(network(w1, w2)), torch.eye(w1.shape[1], dtype=WORKING), change, ["fc1"],
                           shares=[share_left])  # fmt: skip
    return solve(task).richness


@pytest.mark.parametrize("balance", [-30.0, -1.0, 0.0, 0.2, 30.0])
@pytest.mark.parametrize("share_left", [0.01, 0.2])
def test_balanced_networks_have_the_demand_of_the_closed_form(balance: float, share_left: float) -> None:
    w1, w2 = balanced_network(4, 4, 4, balance, 0.3, seed=1)
    turn = torch.linalg.qr(drawn(4, 4, name="turn")).Q
    found = measured(w1, w2, 2.0 * turn, share_left)
    assert found == pytest.approx(balanced_demand(balance, 0.3, 2.0, share_left), abs=1e-9)


def test_the_closed_form_is_that_of_the_definition() -> None:
    w1, w2 = balanced_network(3, 3, 3, -0.7, 0.2)
    change = torch.linalg.qr(drawn(3, 3, name="turn")).Q
    slow = reference.demand(network(w1, w2), torch.eye(3, dtype=WORKING), change, ["fc1"], share_left=0.05)
    assert slow["fc1"] == pytest.approx(balanced_demand(-0.7, 0.2, 1.0, 0.05), abs=2e-3)


def test_one_mode_depends_on_one_number_only() -> None:
    """Strength, initial variance and width enter as s / (sigma^2 w); what is left falls with the width."""
    u, v = (torch.nn.functional.normalize(drawn(5, 1, name=n), dim=0) for n in "uv")
    for width, within in ((100, 0.15), (4000, 0.02)):
        for sigma, s in ((0.05, 1.0), (1.0, 1.0), (1.0, 50.0)):
            w1, w2 = sigma * drawn(width, 5, name="w1"), sigma * drawn(5, width, name="w2")
            expected = one_mode_demand(s, sigma**2 * width, 5)
            assert measured(w1, w2, s * v @ u.mT) == pytest.approx(expected, abs=within)


def test_large_balance_is_lazy_on_one_side_only_for_the_first_layer() -> None:
    slope = {
        sign: balanced_demand(sign * 1e4, 0.1, 1.0) - balanced_demand(sign * 1e3, 0.1, 1.0) for sign in (-1.0, 1.0)
    }
    assert slope[-1.0] == pytest.approx(-2.0, abs=1e-6)
    assert slope[1.0] == pytest.approx(0.0, abs=1e-6)
    both = (balanced_demand(1e3, 0.1, 1.0) + balanced_demand(-1e3, 0.1, 1.0)) / 2
    assert both == pytest.approx(math.log10(0.9 / 1e3), abs=1e-6)


def test_values_that_are_not_positive_are_refused() -> None:
    with pytest.raises(BadInput, match="strength=-1"):
        one_mode_demand(-1.0, 1.0, 3)
    with pytest.raises(BadInput, match="share_left=1"):
        balanced_demand(1.0, 0.1, 1.0, share_left=1.0)
    with pytest.raises(BadInput, match="start=0"):
        balanced_demand(1.0, 0.0, 1.0)
    with pytest.raises(BadInput, match="balance=nan"):
        balanced_demand(math.nan, 0.1, 1.0)
