"""The place by the tangent kernel in `locate`: known outcomes, explicit kernels, and optimizers that are given."""

import copy
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp

from geomfeat.errors import BadInput
from geomfeat.location import LocateOptions, Location, kernel_place, locate
from geomfeat.location.demand import LinearisedTask, solve
from geomfeat.location.demand_interval import _resample
from geomfeat.location.initial_states import Start, observe, start_from
from geomfeat.location.kernel_interval import Resample, ResampledResponse
from geomfeat.network import Network
from geomfeat.study import StudyOptions, analyze
from geomfeat.tangent.jacobians.small_steps import length
from tests.geometry.clouds import normal

KERNEL_NUMBERS = (
    "kernel_demand", "kernel_demand_on_target", "kernel_change", "kernel_excess", "linearisation_gap",
)  # fmt: skip
RATIOS = ("kernel_change", "linearisation_gap")
FAST = {"progress": False, "options": LocateOptions(n_bootstrap=2, share_left=0.01, n_probes=20)}


class Multiplied(nn.Module):
    """A tanh network whose layers have multipliers in the forward pass: rates by layer, written otherwise."""

    def __init__(self, net: nn.Sequential, multipliers: tuple[float, ...]):
        super().__init__()
        self.layers = nn.ModuleList([copy.deepcopy(net[0]), copy.deepcopy(net[2]), copy.deepcopy(net[4])])
        self.multipliers = multipliers
        with torch.no_grad():
            for layer, c in zip(self.layers, multipliers, strict=True):
                for p in layer.parameters():
                    p.div_(c)

    def forward(self, x: Tensor) -> Tensor:
        for i, (layer, c) in enumerate(zip(self.layers, self.multipliers, strict=True)):
            x = c * layer(x)
            x = x if i == 2 else torch.tanh(x)
        return x


def net(seed: int = 0, width: int = 24) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
    ).double()  # fmt: skip


X, Y = normal(30, 4, seed=5), normal(30, 2, seed=6)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, target: Tensor = Y) -> nn.Module:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(X) - target).square().mean().backward()
        optimizer.step()
    return model


@cache
def descended(steps: int = 60) -> tuple[nn.Module, nn.Module]:
    start = net()
    end = copy.deepcopy(start)
    return start, train(end, torch.optim.SGD(end.parameters(), lr=0.2), steps)


def numbers(found: Location) -> list[float]:
    return [found.richness, found.kernel_demand, found.kernel_demand_on_target, found.kernel_change,
            found.linearisation_gap]  # fmt: skip


def test_what_happened_is_measured_as_by_an_explicit_jacobian() -> None:
    start, end = descended()
    found = locate(
        end, X, initial=start, progress=False, options=LocateOptions(n_bootstrap=2, share_left=0.01, n_probes=30)
    )
    before, after = (dict(m.named_parameters()) for m in (start, end))

    def kernel(theta: dict[str, Tensor]) -> Tensor:
        rows = jacrev(lambda t: functional_call(start, t, (X,)).flatten())({k: v.detach() for k, v in theta.items()})
        j = torch.cat([part.flatten(1) for part in rows.values()], 1)
        return j @ j.T

    k0, k1 = kernel(before), kernel(after)
    assert found.kernel_change == pytest.approx(float((k1 - k0).norm() / k0.norm()), rel=1e-6)
    step = {name: (after[name] - p).detach() for name, p in before.items()}
    theta = {name: p.detach() for name, p in before.items()}
    linear = jvp(lambda t: functional_call(start, t, (X,)), (theta,), (step,))[1]
    change = (end(X) - start(X)).detach()
    assert found.linearisation_gap == pytest.approx(float((change - linear).norm() / change.norm()), rel=1e-6)
    assert found.metric == "plain: not known"
    assert found.kernel_excess == pytest.approx(0, abs=0.2)  # plain descent moves the kernel as its flow demands


def test_one_trajectory_has_one_place_however_it_is_written() -> None:
    """Multipliers c in the forward pass, or rates c^2: the same steps, so the same R, kernel and gap."""
    multipliers = (3.0, 1.0, 0.1)
    plain = net()
    written = Multiplied(plain, multipliers)
    begun, other = copy.deepcopy(plain), copy.deepcopy(written)
    rates = {f"{2 * i}.*": 0.05 * c**2 for i, c in enumerate(multipliers)}
    groups = [{"params": plain[2 * i].parameters(), "lr": 0.05 * c**2} for i, c in enumerate(multipliers)]
    optimizer = torch.optim.SGD(groups)
    train(plain, optimizer, 40)
    train(written, torch.optim.SGD(written.parameters(), lr=0.05), 40)
    torch.testing.assert_close(plain(X), written(X), rtol=1e-9, atol=1e-9)
    by_multipliers = locate(written, X, initial=other, layers=["layers.0", "layers.1"], **FAST)
    for given in (rates, optimizer):
        by_rates = locate(plain, X, initial=begun, layers=["0", "2"], optimizer=given, **FAST)
        assert by_rates.metric == "given rates"
        # The layers of one network are multiplied after they are recorded, which their relative movement does not see.
        assert numbers(by_rates) == pytest.approx(numbers(by_multipliers), abs=1e-6)
    unknown = locate(plain, X, initial=begun, layers=["0", "2"], **FAST)
    assert abs(unknown.richness - by_multipliers.richness) > 0.1


def test_adam_is_known_by_its_state_or_by_its_kind() -> None:
    """In the lazy range, M = R in the coordinates of the training itself."""
    start = net(width=64)
    end = copy.deepcopy(start)
    optimizer = torch.optim.Adam(end.parameters(), lr=1e-4)
    train(end, optimizer, 400, (start(X) + 0.02 * Y).detach())
    every = {**FAST, "options": LocateOptions(n_bootstrap=2, n_probes=20)}  # all shares, over which R is the mean
    plain = locate(end, X, initial=start, **every)
    by_state = locate(end, X, initial=start, optimizer=optimizer.state_dict(), **every)
    by_kind = locate(end, X, initial=start, optimizer=torch.optim.Adam(end.parameters()), **every)
    assert (by_state.metric, by_kind.metric) == ("Adam state", "gradient at the start")
    assert plain.excess > 0.2
    assert abs(by_state.excess) < 0.6 * plain.excess
    assert abs(by_kind.excess) < 0.1
    assert by_state.movement == plain.movement


def test_a_small_readout_reads_lazy_by_its_features_only() -> None:
    """Scaled down by 100, the read-out learns as before: R falls by two decades, the kernel's demand does not."""
    start = net()
    small = copy.deepcopy(start)
    with torch.no_grad():
        for p in (*small[4].parameters(), *start[4].parameters()):
            p.zero_() if p.ndim == 1 else None
        small[4].weight.mul_(0.01)
        start[4].weight.mul_(0.1)
    places = []
    for model in (start, small):
        end = train(copy.deepcopy(model), torch.optim.SGD(model.parameters(), lr=0.1), 0)
        optimizer = torch.optim.SGD(end.parameters(), lr=0.1)
        places.append(locate(train(end, optimizer, 60), X, initial=model, **FAST))
    assert places[0].richness - places[1].richness > 0.7
    assert abs(places[0].kernel_demand - places[1].kernel_demand) < 0.2


def test_a_head_alone_leaves_the_kernel_where_it_is() -> None:
    start = net()
    end = copy.deepcopy(start)
    train(end, torch.optim.SGD(end[4].parameters(), lr=0.2), 30)
    found = locate(end, X, initial=start, optimizer={"4.*": 0.2}, **FAST)
    assert found.regime == "frozen"
    assert (found.kernel_demand, found.kernel_demand_on_target, found.kernel_change) == (-math.inf, -math.inf, 0.0)
    assert found.linearisation_gap < 1e-9
    assert Location.from_json(found.to_json()).kernel_demand == -math.inf


def test_without_the_start_only_the_demand_is_known() -> None:
    found = locate(descended()[1], X, optimizer={"*": 0.2}, **FAST)
    assert math.isfinite(found.kernel_demand)
    assert math.isnan(found.kernel_change)
    assert math.isnan(found.linearisation_gap)


def test_an_optimizer_that_leaves_out_what_moved_is_refused() -> None:
    start, end = descended()
    with pytest.raises(BadInput, match=r"'0.weight' moved, but has no rate"):
        locate(end, X, initial=start, optimizer={"2.*": 0.1, "4.*": 0.1}, **FAST)
    with pytest.raises(BadInput, match=r"optimizer of another model"):
        locate(end, X, initial=start, optimizer=torch.optim.SGD(net(width=5).parameters(), lr=0.1), **FAST)


def test_a_length_that_rests_needs_no_rate_though_its_weight_moved() -> None:
    start = net()
    nn.utils.parametrizations.weight_norm(start[2])
    end = copy.deepcopy(start)
    length = "2.parametrizations.weight.original0"
    moving = [p for name, p in end.named_parameters() if name != length]
    train(end, torch.optim.SGD(moving, lr=0.2), 30)
    rates = {name: 0.2 for name, _ in end.named_parameters() if name != length}
    found = locate(end, X, initial=start, optimizer=rates, **FAST)
    free = locate(end, X, initial=start, params=list(rates), **FAST)
    assert (found.metric, found.richness) == ("given rates", pytest.approx(free.richness, rel=1e-9))
    assert found.tangent == free.tangent


def test_a_study_locates_in_the_coordinates_of_its_optimizer() -> None:
    start, end = descended()
    rates = {"0.*": 1.0, "2.*": 0.01, "4.*": 1.0}
    options = StudyOptions(optimizer=rates, umap=False)
    found = analyze(
        end, X, initial=start, measures="stable_rank", progress=False, location=FAST["options"], options=options
    ).location  # fmt: skip
    assert found is not None
    assert numbers(found) == pytest.approx(numbers(locate(end, X, initial=start, optimizer=rates, **FAST)), rel=1e-9)
    with pytest.raises(BadInput, match="matches no parameter"):
        analyze(end, X, initial=start, progress=False, options=StudyOptions(optimizer={"fc": 1.0}))


def test_intervals_and_shares_by_layer_come_with_the_place_and_through_json() -> None:
    start, end = descended()
    options = LocateOptions(n_bootstrap=20, share_left=0.01, n_probes=30)
    found = locate(end, X, initial=start, progress=False, options=options)
    for name in KERNEL_NUMBERS:
        low, high = found.kernel_intervals[name]
        assert low < getattr(found, name) < high
        assert high - low < 1.0
    shares = found.layers[["kernel_share", "kernel_share_measured"]].to_numpy()
    assert ((shares > 0) & (shares < 1)).all()
    assert (shares.sum(0) < 1).all()  # the read-out has the rest
    assert Location.from_json(found.to_json()).kernel_intervals == found.kernel_intervals


def test_intervals_of_the_kernel_are_as_wide_as_the_spread_over_other_probes() -> None:
    """Standard errors against standard deviations over disjoint sets of probes, in decades.

    That of the demand on the target also has the spread of the coefficients, and may be up to four times too wide.
    """
    start = net()
    x = normal(300, 4, seed=7)
    end = copy.deepcopy(start)
    optimizer = torch.optim.SGD(end.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (end(x) - torch.sin(2 * x[:, :2])).square().mean().backward()
        optimizer.step()
    apart: dict[str, list[float]] = {name: [] for name in KERNEL_NUMBERS}
    errors: dict[str, list[float]] = {name: [] for name in KERNEL_NUMBERS}
    for seed in range(10):
        found = locate(
            end, normal(40, 4, seed=100 + seed), initial=start, progress=False,
            options=LocateOptions(share_left=kernel_place.SHARE),
        )  # fmt: skip
        for name in KERNEL_NUMBERS:
            value, (low, high) = getattr(found, name), found.kernel_intervals[name]
            value, low, high = (math.log10(v) if name in RATIOS else v for v in (value, low, high))
            apart[name].append(value)
            errors[name].append((high - low) / 2 / 1.645)
    for name in KERNEL_NUMBERS:
        ratio = torch.tensor(apart[name]).std() / torch.tensor(errors[name]).mean()
        assert (0.25 if "target" in name else 0.5) < float(ratio) < 2.0, name


def test_fresh_starts_widen_the_interval_of_the_demand() -> None:
    found = locate(
        descended()[1], X, progress=False, options=LocateOptions(n_bootstrap=4, share_left=0.01, n_probes=20)
    )
    low, high = found.kernel_intervals["kernel_demand"]
    assert low < found.kernel_demand < high
    assert set(found.kernel_intervals) == {"kernel_demand", "kernel_demand_on_target"}


class TwoWays(nn.Module):
    """Bent hidden units, read out in one operation near the start and in two far from it: the same function."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 12), nn.Linear(12, 30)
        self.limit = 1.02 * float(self.first.weight.detach().norm())

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if float(self.first.weight.detach().norm()) < self.limit:
            return self.last(h)
        return h @ self.last.weight.T + self.last.bias


def test_a_network_that_computes_in_another_way_at_other_weights_is_placed_by_vectors() -> None:
    start = TwoWays().double()
    end = copy.deepcopy(start)
    with torch.no_grad():
        for i, p in enumerate(end.parameters()):
            p.add_(0.3 * normal(*p.shape, seed=20 + i))
    found, whole = (
        locate(
            end, X, initial=start, progress=False,
            options=LocateOptions(n_bootstrap=2, share_left=0.01, n_probes=20, projections=k),
        )
        for k in (2, None)
    )  # fmt: skip
    assert found.kernel_demand == pytest.approx(whole.kernel_demand, abs=0.4)  # along two leading directions
    assert found.kernel_change == pytest.approx(whole.kernel_change, rel=0.2)
    assert all(math.isnan(share) for share in found.layers["kernel_share"])


def test_the_kernel_of_all_outputs_of_a_large_network_is_estimated_and_not_formed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    start = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 30)).double()
    end = copy.deepcopy(start)
    with torch.no_grad():
        for i, p in enumerate(end.parameters()):
            p.add_(0.3 * normal(*p.shape, seed=20 + i))
    options = LocateOptions(n_bootstrap=2, share_left=0.01, n_probes=20)
    formed = locate(end, X, initial=start, progress=False, options=options)
    monkeypatch.setattr(kernel_place, "HEAVY", 100)
    estimated = locate(end, X, initial=start, progress=False, options=options)
    assert estimated.richness == formed.richness
    assert estimated.kernel_change != formed.kernel_change
    assert estimated.kernel_demand == pytest.approx(formed.kernel_demand, abs=0.15)
    assert estimated.kernel_change == pytest.approx(formed.kernel_change, rel=0.2)


@pytest.fixture
def by_factors(monkeypatch: pytest.MonkeyPatch) -> tuple[Start, Network]:
    """A network of many outputs through one direction of them, as a large one, from its start."""
    return as_large(monkeypatch, torch.float64)


def as_large(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> tuple[Start, Network]:
    monkeypatch.setattr(kernel_place, "HEAVY", 100)
    monkeypatch.setattr("geomfeat.network.HEAVY", 100)
    monkeypatch.setattr("geomfeat.location.demand.FACTORED", 0)
    torch.manual_seed(0)
    start = nn.Sequential(nn.Linear(4, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 30)).double()
    end = copy.deepcopy(start)
    with torch.no_grad():
        for i, p in enumerate(end.parameters()):
            p.add_(0.2 * normal(*p.shape, seed=20 + i))
    start, end = start.to(dtype), end.to(dtype)
    network = Network.prepare(end, X.to(dtype), layers=["0", "2"], initial=start)
    found = start_from(start, observe(network, None, n_probes=20), projections=1)
    return found, network.at(start)


def of_every_probe(task: LinearisedTask, share: float, shorter: float = 1.0) -> Resample:
    """All probes once, with the response at a share over `shorter`."""
    every, task = torch.ones(task.n, dtype=torch.float64), task.stopped_at(share)
    response = _resample(task, every, solve(task)).response
    assert response is not None
    coefficients, direction = response.coefficients / shorter, response.direction
    pulled = lambda: {name: d / shorter for name, d in direction.items()}  # noqa: E731
    return Resample(every, ResampledResponse(coefficients, torch.arange(len(every)), pulled))


def test_a_resample_of_every_probe_once_is_at_the_demand_itself(
    by_factors: tuple[Start, Network],
) -> None:
    found, network = by_factors
    assert found.task.rows is not None
    assert found.task.energy > 1.3
    place = found.kernel
    assert place is not None
    number = place.of_resample["kernel_demand"](of_every_probe(found.task, kernel_place.SHARE))
    assert number == pytest.approx(math.log10(0.2) / place.demand.slope, abs=kernel_place.FAIR)
    # Responses to resamples are all of the first share: they are shortened by what the second one is shorter by.
    shares = kernel_place.SHARE, kernel_place.SHARE_ON_TARGET
    end, middle = (
        length(kernel_place._pulled(network.f, found.task, response))
        for response in kernel_place.responses_of(found.task, *shares)
    )
    number = place.of_resample["kernel_demand_on_target"](of_every_probe(found.task, shares[1], middle / end))
    assert number == pytest.approx(math.log10(0.5) / place.on_target.slope, abs=kernel_place.ROUGH)


def test_the_kernel_at_the_demand_is_the_one_that_the_search_saw(
    by_factors: tuple[Start, Network],
) -> None:
    found, network = by_factors
    place, task, f = found.kernel, found.task, network.f
    form = kernel_place._compared(f, task, 30, 0)[1]
    assert place is not None
    assert form.first is not None
    assert form.start is not None
    (response,) = kernel_place.responses_of(task, kernel_place.SHARE)
    direction = kernel_place._pulled(f, task, response)
    there = form.by_module(f.at(kernel_place._reached(f, direction, place.demand)))
    change = kernel_place.whole_of(there) - form.start
    assert float(change.norm() / form.start.norm()) == pytest.approx(0.2, rel=0.1)
    shares = kernel_place.change_by_layer(form.first, there, ["0", "2"])
    for name, (share, _) in place.by_layer.items():
        assert share == pytest.approx(shares[name], abs=0.02)


def test_probes_that_were_not_drawn_need_not_be_computed(by_factors: tuple[Start, Network]) -> None:
    found, _ = by_factors
    weights = torch.tensor([0.0, 2.0, 1.0, 0.0] * 5, dtype=torch.float64)
    of_drawn = _resample(found.task, weights, solve(found.task.stopped_at(kernel_place.SHARE), weights))
    assert of_drawn.response is not None
    assert of_drawn.response.drawn.tolist() == torch.nonzero(weights).flatten().tolist()
    of_all = replace(of_drawn, response=replace(of_drawn.response, drawn=torch.arange(20)))
    assert found.kernel is not None
    for number in found.kernel.of_resample.values():
        assert number(of_drawn) == pytest.approx(number(of_all), abs=1e-8)


def test_responses_that_begin_with_known_features_differ_by_a_thousandth_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact, rough = (as_large(monkeypatch, dtype)[0] for dtype in (torch.float64, torch.float32))
    assert rough.task.rows is not None
    assert rough.task.rows.f.precision == torch.float32
    for name, h in rough.task.features.items():
        torch.testing.assert_close(h.double(), exact.features[name], rtol=1e-5, atol=1e-5)
    assert rough.demand.layers == pytest.approx(exact.demand.layers, abs=1e-3)
    assert rough.demand.layers != exact.demand.layers
