"""The measure of kernel demand: the location's own numbers, a network that is linear in its weights, and failures."""

import copy
import math

import pytest
import torch
from torch import nn

from geomfeat.location import LocateOptions, locate
from geomfeat.measures.network.kernel_demand import kernel_demand
from tests.geometry.clouds import normal
from tests.measures.network.pairs import pair_of

X, Y = normal(24, 4, seed=1), normal(24, 2, seed=2)


def trained() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    start = nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 2)).double()
    end = copy.deepcopy(start)
    optimizer = torch.optim.SGD(end.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        (end(X) - Y).square().mean().backward()
        optimizer.step()
    return start, end


def test_the_numbers_are_those_of_a_location_at_equal_rates() -> None:
    start, end = trained()
    found = kernel_demand(pair_of(start, end, X))[""]
    where = locate(end, X, initial=start, progress=False, options=LocateOptions(n_bootstrap=2))
    assert found["demand"].value == pytest.approx(where.kernel_demand, abs=2e-3)
    assert found["on_target"].value == pytest.approx(where.kernel_demand_on_target, abs=2e-3)


def test_a_network_that_is_linear_in_its_weights_demands_nothing() -> None:
    torch.manual_seed(0)
    start, end = nn.Linear(4, 2).double(), nn.Linear(4, 2).double()
    found = kernel_demand(pair_of(start, end, X, layers=()))[""]
    assert not found["demand"].ok
    assert "linear in its weights" in found["demand"].note


def test_many_outputs_leave_fewer_probes_and_the_note_says_so() -> None:
    start, end = trained()
    wide = [nn.Sequential(net, nn.Linear(2, 60).double()) for net in (start, end)]
    wide[1][1].load_state_dict(wide[0][1].state_dict())
    found = kernel_demand(pair_of(wide[0], wide[1], X))[""]
    assert found["demand"].note == "8 probes, evenly spread"
    assert math.isfinite(found["demand"].value)


def test_equal_networks_are_a_failed_row() -> None:
    start, _ = trained()
    found = kernel_demand(pair_of(start, copy.deepcopy(start), X))[""]
    assert not any(one.ok for one in found.values())
    assert "did not change" in found["demand"].note
