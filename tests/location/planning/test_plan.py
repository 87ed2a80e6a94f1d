"""The plan of a location: its way, its counts against those of the location itself, and what a budget leaves."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.location import LocateOptions, LocationPlan, locate, plan_location
from geomfeat.location.planning import costs, effort
from geomfeat.numerics import stream
from geomfeat.tangent.jacobians import products
from geomfeat.tangent.layerwise.factored_jacobian import FactoredJacobian
from tests.peak_memory import needs_peaks, printed_by


def net(n_outputs: int = 3) -> nn.Module:
    torch.manual_seed(n_outputs)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, n_outputs))


class Power(nn.Module):
    """A parameter that no rule for layers covers."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.rand(40) + 1)

    def forward(self, x: Tensor) -> Tensor:
        return x.abs() ** self.exponent


def trained(start: nn.Module) -> nn.Module:
    end = copy.deepcopy(start)
    with torch.no_grad():
        for p in end.parameters():
            p += 0.05 * torch.randn(p.shape, generator=stream(0, "moved", *p.shape))
    return end


def inputs(n: int = 40) -> Tensor:
    return torch.randn(n, 6, generator=stream(0, "inputs"))


@pytest.fixture
def unit_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product takes a second, whatever its samples, and nothing else takes any time."""
    monkeypatch.setattr(costs, "seconds_of", lambda work: 1.0)
    monkeypatch.setattr(costs, "bent", lambda times: costs.Curve())
    monkeypatch.setattr(costs, "algebra", lambda rows: 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("way", [costs.FORMED, costs.PRODUCTS, costs.GUIDED, costs.FACTORS, costs.FEW])
def test_the_counted_products_are_those_of_the_location(
    way: str, unit_products: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a factor of two, as the plan says of its seconds."""
    wide = way in (costs.GUIDED, costs.FACTORS, costs.FEW)
    start = net(40 if wide else 3)
    if way == costs.FEW:
        start = nn.Sequential(start, Power())
        monkeypatch.setattr("geomfeat.tangent.layerwise.factored_jacobian.BUDGET", 0)
    options = LocateOptions(projections=4 if way in (costs.FACTORS, costs.FEW) else None)
    if wide:
        monkeypatch.setattr(effort, "ENTRIES", 1e3)
        monkeypatch.setattr("geomfeat.location.demand.FACTORED", 0)
    if way == costs.PRODUCTS:
        monkeypatch.setattr("geomfeat.location.demand.FORMED_ROWS", 0)
    found = plan_location(trained(start), inputs(), initial=start, options=options)
    assert found.way == way
    # Half a product each: a backward pass, a derivative along a direction, J' a from factors; and those of sketches.
    calls: Counter[str] = Counter()
    for owner, name in (
        (products, "_in_batches"),
        (FactoredJacobian, "pulled"),
        (FactoredJacobian, "kernel_by_module"),
    ):
        counted(monkeypatch, calls, owner, name)
    where = locate(trained(start), inputs(), initial=start, progress=False, options=options)
    assert where.details["n_probes"] == found.n_probes
    made = (calls["_in_batches"] + calls["pulled"]) / 2 + costs.SKETCH * calls["kernel_by_module"]
    assert made / 2 < found.seconds < 2 * made


def counted(monkeypatch: pytest.MonkeyPatch, calls: Counter[str], owner: Any, name: str) -> None:
    whole = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


def test_kernels_in_the_coordinates_of_adam_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They cost far more than products there, since their gradients are formed."""
    timed: list[Any] = []
    monkeypatch.setattr(effort, "ENTRIES", 1e3)
    monkeypatch.setattr(costs, "kernel_sketch", lambda f, *rest: timed.append(f))
    start = net(40)
    end = trained(start)
    plain = plan_location(end, inputs(), initial=start, optimizer=torch.optim.SGD(end.parameters(), lr=0.1))
    assert (plain.way, timed) == (costs.GUIDED, [])
    optimizer = torch.optim.Adam(end.parameters(), lr=0.1)
    for p in end.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    found = plan_location(end, inputs(), initial=start, optimizer=optimizer)
    assert found.way == costs.GUIDED
    assert len(timed) == 2 * len(costs.TIMED)
    assert all(isinstance(factor, Tensor) for f in timed for factor in f.scale.values())


def test_outputs_that_are_no_linear_layer_go_through_few_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "ENTRIES", 1e3)
    start = nn.Sequential(net(40), nn.Softplus())
    assert plan_location(trained(start), inputs(), initial=start).way == costs.FACTORS
    odd = nn.Sequential(net(40), Power())
    assert plan_location(trained(odd), inputs(), initial=odd).way == costs.FACTORS
    monkeypatch.setattr("geomfeat.tangent.layerwise.factored_jacobian.BUDGET", 0)
    assert plan_location(trained(odd), inputs(), initial=odd).way == costs.FEW


@pytest.mark.parametrize(("n_outputs", "way"), [(200, costs.PRODUCTS), (300, costs.FACTORS)])
def test_many_outputs_go_through_few_directions_however_small_the_network(n_outputs: int, way: str) -> None:
    """As of a recogniser of speech, which says something in every frame."""
    start = nn.Sequential(net(n_outputs), nn.Softplus())
    assert plan_location(trained(start), inputs(), initial=start).way == way


def test_more_probes_take_longer_and_fresh_starts_are_counted() -> None:
    start = net()
    few, many = (
        plan_location(trained(start), inputs(), initial=start, options=LocateOptions(n_probes=n)) for n in (8, 40)
    )
    assert (few.n_probes, many.n_probes, few.n_starts) == (8, 40, 1)
    assert few.memory <= many.memory
    assert plan_location(trained(start), inputs()).n_starts == 4
    assert isinstance(many, LocationPlan)
    assert "40 probes, 3 outputs, 20 resamples; by formed kernel, in float64" in str(many)
    assert "4 sets of fresh weights" in str(plan_location(trained(start), inputs()))


def test_a_budget_takes_the_most_probes_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "seconds_of", lambda work: 1.0)
    monkeypatch.setattr(costs, "bent", lambda times: costs.Curve(each=1.0))
    start = net()
    whole = plan_location(trained(start), inputs(), initial=start)
    budget = (whole.seconds - 100.0, None)
    options = LocateOptions(budget=budget, n_bootstrap=20)
    found = locate(trained(start), inputs(), initial=start, progress=False, options=options)
    n = found.details["n_probes"]
    assert 4 <= n < 40
    assert any(f"budget={budget} allows {n} of 40 probes" in flag for flag in found.flags)
    seconds = [
        plan_location(trained(start), inputs(), initial=start, options=LocateOptions(n_probes=k)).seconds
        for k in (n, n + 1)
    ]
    assert seconds[0] <= budget[0] < seconds[1]


@pytest.mark.slow
def test_a_budget_that_is_enough_changes_nothing() -> None:
    start = net()
    free = locate(trained(start), inputs(), initial=start, progress=False)
    enough = locate(trained(start), inputs(), initial=start, progress=False, options=LocateOptions(budget=(1e6, 1e15)))
    assert (enough.richness, enough.low, enough.flags) == (free.richness, free.low, free.flags)


def test_a_budget_for_less_than_four_probes_is_refused_with_the_numbers() -> None:
    start = net()
    for budget in ((1e-9, None), (None, 1.0)):
        with pytest.raises(BadInput, match=r"4 probes, the fewest, take about .* s and .* GB: raise it"):
            locate(trained(start), inputs(), initial=start, progress=False, options=LocateOptions(budget=budget))


@pytest.mark.parametrize("budget", [60, (1, 2, 3), (-1, None), (0, 1)])
def test_a_budget_is_a_pair_of_positive_numbers(budget: Any) -> None:
    with pytest.raises(BadInput, match=r"\(seconds, bytes\), positive numbers or None"):
        LocateOptions(budget=budget)


COPIES_HELD = """
import copy, torch
from torch import nn
import geomfeat as gf
from tests.peak_memory import PeakMemory

def made(width, depth):
    widths = [64, *[width] * depth, 60]
    pairs = zip(widths, widths[1:], strict=False)
    return nn.Sequential(*[m for a, b in pairs for m in (nn.Linear(a, b), nn.Tanh())][:-1])

def located(start):
    end = copy.deepcopy(start)
    with torch.no_grad():
        for p in end.parameters():
            p.add_(0.02 * p.std() * torch.randn_like(p))
    held = PeakMemory()
    options = gf.LocateOptions(projections=2, n_bootstrap=2)
    gf.locate(end, torch.randn(12, 64), initial=start, progress=False, options=options)
    return held.added / (sum(p.numel() for p in start.parameters()) * 4e-6)

torch.manual_seed(0)
located(made(8, 1))
print(located(made(1000, 4)))
"""


@needs_peaks
@pytest.mark.slow
def test_a_location_holds_no_more_copies_of_a_large_network_than_planned() -> None:
    assert 2 < float(printed_by(COPIES_HELD)) < costs.COPIES + 1
