"""Very many outputs: a guess at their kernel gives the demand of all of them, where few directions read it too high."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.location import LocateOptions, Location, all_outputs, initial_states, locate
from geomfeat.location.all_outputs import through_all_outputs
from geomfeat.location.demand import LinearisedTask, linearised_task, responses_of, solve
from geomfeat.location.planning import effort
from geomfeat.models.functional import functional
from geomfeat.network import Network
from geomfeat.numerics import stream
from geomfeat.regimes.linearization.guided_response import GuidedSearch
from geomfeat.regimes.linearization.kronecker_kernel import KroneckerKernel
from geomfeat.regimes.linearization.normed_kernel import NormedKernel

V, N = 300, 12
FREE = {"head frozen": ("0.", "2."), "all": ("",)}


@cache
def trained(free: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """A classifier of 300 classes on 24 features, before and after some steps in a part of its parameters."""
    torch.manual_seed(0)
    start = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, V)).double()
    x, _ = inputs()
    return after_steps(start, free), start, x


def inputs() -> tuple[Tensor, Tensor]:
    """Samples and their classes."""
    x = torch.randn(N, 20, generator=stream(0, "inputs"), dtype=torch.float64)
    return x, torch.randint(0, V, (N,), generator=stream(0, "classes"))


def after_steps(start: nn.Module, free: str = "all") -> nn.Module:
    """The network after some steps in a part of its parameters."""
    end, (x, y) = copy.deepcopy(start), inputs()
    moving = [p for name, p in end.named_parameters() if name.startswith(FREE[free])]
    optimizer = torch.optim.SGD(moving, lr=1.0)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(end(x), y).backward()
        optimizer.step()
    return end


def located(free: str, **arguments: Any) -> Location:
    end, start, x = trained(free)
    options = LocateOptions(n_bootstrap=2, share_left=0.01, loss="cross-entropy", **arguments.pop("options", {}))
    return locate(end, x, initial=start, progress=False, options=options, **arguments)


@pytest.mark.parametrize("free", FREE)
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_demand_is_that_of_all_outputs(free: str, adaptive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the coordinates of Adam, where the last layer's kernel is no Kronecker product."""
    end, _, _ = trained(free)
    moving = [p for name, p in end.named_parameters() if name.startswith(FREE[free])]
    optimizer = torch.optim.Adam(moving, lr=1e-3) if adaptive else None
    exact = located(free, optimizer=optimizer)
    few = located(free, optimizer=optimizer, options={"projections": 4})
    monkeypatch.setattr(effort, "ENTRIES", 1e3)
    found = located(free, optimizer=optimizer)
    assert found.details["method"] == "guided products"
    assert found.richness == pytest.approx(exact.richness, abs=0.05)
    for one, truth in zip(found.layers["richness"], exact.layers["richness"], strict=True):
        assert one == pytest.approx(truth, abs=0.07)
    assert found.kernel_demand == pytest.approx(exact.kernel_demand, abs=0.25)  # by a sketch
    assert abs(few.richness - exact.richness) > 2 * abs(found.richness - exact.richness)
    assert found.high - found.low < few.high - few.low
    assert found.by_probes["richness"].iloc[-1] == found.richness
    assert 0 < found.details["outputs_error"] < 0.06


def test_an_error_that_is_left_widens_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "ENTRIES", 1e3)
    monkeypatch.setattr("geomfeat.location.initial_states.Start.outputs_error", 3.0)
    found = located("all")
    assert found.low < found.richness - 3
    assert found.high > found.richness + 3
    assert "off by about 3.00 decades" in str(found.flags)


def test_the_guess_has_the_trace_of_the_kernel_over_the_few_directions() -> None:
    _, start, x = trained("all")
    f, change = functional(start), torch.randn(N, V, dtype=torch.float64, generator=stream(2, "change"))
    few = linearised_task(f, x, change, ["0", "2"], method="kernel", projections=4)
    whole = through_all_outputs(few, f, change)
    assert whole is not None
    assert whole.search is not None
    assert few.gram is not None
    assert few.projection is not None
    guess = whole.search.guess
    assert isinstance(guess, KroneckerKernel)
    seen = float((guess.weight.mT @ few.projection).square().sum())
    traces = torch.einsum("icjc->ij", few.gram.view(N, 4, N, 4))
    torch.testing.assert_close(4 * guess.own + seen * guess.others, traces, rtol=1e-6, atol=1e-6 * float(traces.max()))
    torch.testing.assert_close(guess.own, start[:4](x) @ start[:4](x).mT + 1, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_features_behind_a_norm_move_across_themselves(norm: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 24), norm(24), nn.Linear(24, V)]
    start = nn.Sequential(*layers).double()
    end, x = after_steps(start), inputs()[0][:9]  # samples that the formed kernel takes little time for
    f, drawn = functional(start), torch.randn(len(x), V, dtype=torch.float64, generator=stream(2, "change"))
    for change in (drawn, end(x).detach() - start(x).detach()):
        few = linearised_task(f, x, change, ["0", "2"], method="kernel", projections=4)
        exact = solve(linearised_task(f, x, change, ["0", "2"], method="kernel"))
        whole = through_all_outputs(few, f, change)
        assert whole is not None
        assert solve(whole).richness == pytest.approx(exact.richness, abs=0.02)
    guess = search_of(whole).guess
    assert isinstance(guess, NormedKernel)
    # theta is fitted to the trace of every block over the few directions.
    across = torch.eye(24, dtype=torch.float64) - guess.units[:, :, None] * guess.units[:, None]
    assert few.projection is not None
    assert few.gram is not None
    pulled = few.projection.mT @ guess.plain.weight
    seen = torch.einsum("pa,iab,jbc,pc->ij", pulled, across, across, pulled)
    traces = torch.einsum("icjc->ij", few.gram.view(len(x), 4, len(x), 4))
    expected = 4 * guess.plain.own + seen * guess.plain.others
    torch.testing.assert_close(expected, traces, rtol=1e-6, atol=0.02 * float(traces.max()))
    monkeypatch.setattr(all_outputs, "norm_of", lambda *_: None)
    plain = through_all_outputs(few, f, change)
    assert plain is not None
    solve(plain)
    assert count(whole) < 0.8 * count(plain)


def search_of(task: LinearisedTask) -> GuidedSearch:
    assert task.search is not None
    return task.search


def count(task: LinearisedTask) -> int:
    """Products of a search."""
    space = search_of(task).space
    return 0 if space is None else space.count


def test_outputs_that_are_no_linear_layer_are_left_to_few_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "ENTRIES", 1e3)
    end, start, x = (nn.Sequential(m, nn.Softplus()) if isinstance(m, nn.Module) else m for m in trained("all"))
    found = locate(end, x, initial=start, progress=False, options=LocateOptions(n_bootstrap=2))
    assert found.details["method"] == "kernel"
    assert "leading directions of the change among 300 outputs" in str(found.flags)


def test_a_task_without_a_kernel_of_few_directions_stays_as_it_is() -> None:
    _, start, x = trained("all")
    f, change = functional(start), torch.randn(N, V, dtype=torch.float64)
    few = linearised_task(f, x, change, ["0", "2"], method="products", projections=2)
    assert through_all_outputs(few, f, change) is None


def test_the_largest_networks_are_located_on_fewer_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    end, start, _ = trained("all")
    x = torch.randn(40, 20, generator=stream(3, "inputs"), dtype=torch.float64)
    entries = 32 * V * sum(p.numel() for p in start.parameters())
    for most, n in ((entries, 32), (entries - 1, 16)):
        monkeypatch.setattr(initial_states, "ENTRIES", most)
        network = Network.prepare(end, x, initial=start)
        assert len(initial_states.observe(network, None).rows) == n
        assert len(initial_states.observe(network, None, n_probes=20).rows) == 20


def test_responses_that_need_fewer_digits_take_fewer_products() -> None:
    _, start, x = trained("all")
    f, change = functional(start), torch.randn(N, V, dtype=torch.float64, generator=stream(2, "change"))
    few = linearised_task(f, x, change, ["0", "2"], method="kernel", projections=4)
    counts = []
    for precise in (0.3, 1e-3):
        whole = through_all_outputs(few, f, change)
        assert whole is not None
        (response,) = responses_of(whole, 0.01, precise=precise)
        assert response.residual <= precise
        counts.append(count(whole))
    assert counts[0] < counts[1]
