"""Demand R: the slow definition, exact scalings, lazy training, and the two methods against each other."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.location.demand import FEW_SHARES, MIDDLE, ROUGH, SHARES, Demand, linearised_task, solve
from geomfeat.location.demand_interval import bootstrap, by_probes, spread
from geomfeat.location.movement import movement, outputs_and_features
from geomfeat.models.functional import functional
from geomfeat.models.linear import linear
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.regimes.training.objective import centred_one_hot
from geomfeat.tangent import vjp
from tests.activations import zoo
from tests.reference import demand as reference


def drawn(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(*shape, generator=stream(0, "test demand", name), dtype=torch.float64)


def small() -> tuple[nn.Module, Tensor, Tensor]:
    return mlp(4, (6, 5), 2, activation="tanh", seed=0), drawn(5, 4), drawn(5, 2, name="change")


@pytest.mark.parametrize("method", ["kernel", "products"])
def test_demand_is_that_of_the_definition(method: str) -> None:
    model, x, change = small()
    found = solve(linearised_task(functional(model), x, change, ["fc1", "fc2"], shares=[0.05], method=method))
    slow = reference.demand(model, x, change, ["fc1", "fc2"], share_left=0.05)
    assert found.layers == pytest.approx(slow, abs=2e-3)
    assert found.richness == pytest.approx(np.mean(list(slow.values())), abs=2e-3)


@pytest.mark.parametrize("build", zoo.ZOO.values(), ids=list(zoo.ZOO))
def test_methods_agree_on_every_kind_of_network(build) -> None:
    model, x = build()
    f = functional(model)
    outputs = f(f.theta, f.inputs(x))
    change = drawn(*outputs.shape, name="change")
    from geomfeat.activations import hidden_weight_layers

    layers = hidden_weight_layers(model, x)
    by_kernel = solve(linearised_task(f, x, change, layers, method="kernel"))
    by_products = solve(linearised_task(f, x, change, layers, method="products"))
    assert by_kernel.layers
    assert by_products.layers == pytest.approx(by_kernel.layers, abs=1e-3)


def test_three_times_the_change_is_exactly_log10_of_three_more() -> None:
    model, x, change = small()
    task = linearised_task(functional(model), x, change, ["fc1", "fc2"])
    assert solve(replace(task, change=3 * change)).richness - solve(task).richness == pytest.approx(
        math.log10(3), abs=1e-9
    )


def test_scaling_the_outputs_leaves_demand_as_it_is() -> None:
    model, x, change = small()
    f = functional(model)
    scaled = functional(model, readout=lambda out, inputs: 7.0 * out)
    a = solve(linearised_task(f, x, change, ["fc1", "fc2"]))
    b = solve(linearised_task(scaled, x, 7.0 * change, ["fc1", "fc2"]))
    assert b.layers == pytest.approx(a.layers, abs=1e-9)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_slope_on_init_scale_is_minus_the_depth(depth: int) -> None:
    """A homogeneous net of L layers: J ~ s^(L-1), so Dtheta ~ s^-(L-1) and the features' relative demand ~ s^-L."""
    start = mlp(6, (12,) * (depth - 1), 3, bias=False, seed=0)
    x, change = drawn(8, 6), drawn(8, 3, name="change")
    layers = [f"fc{i}" for i in range(1, depth)]

    def richness(scale: float) -> float:
        model = copy.deepcopy(start)
        with torch.no_grad():
            for p in model.parameters():
                p *= scale
        return solve(linearised_task(functional(model), x, change, layers)).richness

    assert (richness(2.0) - richness(0.5)) / math.log10(4.0) == pytest.approx(-depth, abs=1e-6)


def test_slope_on_width_is_minus_a_half_in_ntk_parameterization() -> None:
    x, change = drawn(12, 10), drawn(12, 2, name="change")

    def richness(width: int) -> float:
        nets = [mlp(10, (width, width), 2, parameterization="ntk", seed=s) for s in range(4)]
        return float(np.mean([solve(linearised_task(functional(n), x, change, ["fc1", "fc2"])).richness for n in nets]))

    assert (richness(512) - richness(128)) / math.log10(4) == pytest.approx(-0.5, abs=0.05)


def test_a_mode_of_a_linear_net_is_richer_by_its_strength() -> None:
    """R of one mode is log10 of s / (sigma^2 w) up to a constant: slope 1 in the strength of the mode."""
    net = linear(8, (64,), 8, seed=0)
    u, v = drawn(8, 1, name="u"), drawn(8, 1, name="v")
    x = torch.eye(8, dtype=torch.float64)

    def richness(strength: float) -> float:
        change = strength * x @ (v / v.norm()) @ (u / u.norm()).mT
        layer = next(n for n, m in net.named_modules() if isinstance(m, nn.Linear))
        return solve(linearised_task(functional(net), x, change, [layer])).richness

    assert richness(10.0) - richness(0.1) == pytest.approx(2.0, abs=1e-6)


def digits(n: int) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.data), generator=stream(0, "digits"))[:n].numpy()
    x = torch.tensor(data.data[order] / 16, dtype=torch.float32)
    return x - x.mean(0), torch.tensor(data.target[order])


def test_in_lazy_training_features_move_as_far_as_demanded() -> None:
    """All training inputs as probes, the target as the goal, stopped at the network's own training loss: M = R."""
    x, y = digits(60)
    start, gamma = mlp(64, (128, 128), 10, seed=0), 0.01
    trained = train_at_gamma(
        start, x, y, gamma=gamma, target_loss=0.05, options=TrainOptions(momentum=0.0, dtype=torch.float64)
    )
    f, end = functional(start), functional(trained.model)
    wanted = gamma * centred_one_hot(y, 10, torch.float64)
    layers = ["fc1", "fc2"]
    found = solve(linearised_task(f, x, wanted, layers, shares=[trained.train_loss]))
    moved = movement(outputs_and_features(f, x, layers)[1], outputs_and_features(end, x, layers)[1])
    assert found.richness < -0.6
    assert np.mean(list(moved.values())) == pytest.approx(found.richness, abs=0.02)
    assert moved == pytest.approx(dict(found.layers), abs=0.03)


def test_weights_are_repetitions() -> None:
    model, x, change = small()
    weights = torch.tensor([2.0, 0.0, 1.0, 1.0, 3.0], dtype=torch.float64)
    rows = torch.repeat_interleave(torch.arange(5), weights.long())
    layers = ["fc1", "fc2"]
    for method in ("kernel", "products"):
        task = linearised_task(functional(model), x, change, layers, method=method)
        repeated = linearised_task(functional(model), x[rows], change[rows], layers, method=method)
        assert solve(task, weights).layers == pytest.approx(solve(repeated).layers, abs=1e-6)


@pytest.mark.parametrize(("outputs", "units", "within"), [(20, 64, 0.05), (100, 256, 0.05)])
def test_projected_outputs_agree_while_they_are_few_beside_the_units(outputs: int, units: int, within: float) -> None:
    model, x = mlp(16, (units, units), outputs, seed=0), drawn(12, 16)
    f, layers = functional(model), ["fc1", "fc2"]
    changes = [drawn(12, outputs, name="change"), drawn(12, 2, name="a") @ drawn(2, outputs, name="b")]
    for change in changes:
        full = solve(linearised_task(f, x, change, layers)).richness
        few = solve(linearised_task(f, x, change, layers, projections=8)).richness
        assert few == pytest.approx(full, abs=within)


def test_projecting_on_all_outputs_changes_nothing() -> None:
    model, x, change = small()
    f = functional(model)
    assert solve(linearised_task(f, x, change, ["fc1"], projections=2)).richness == pytest.approx(
        solve(linearised_task(f, x, change, ["fc1"])).richness, abs=1e-9
    )


def test_a_frozen_layer_cannot_move_and_does_not_enter_the_mean() -> None:
    model, x, change = small()
    for p in model.get_submodule("fc1").parameters():
        p.requires_grad_(False)
    found = solve(linearised_task(functional(model), x, change, ["fc1", "fc2"]))
    assert found.layers["fc1"] == -math.inf
    assert found.richness == found.layers["fc2"]


def test_resamples_do_not_depend_on_how_many_there_are() -> None:
    model, x, change = small()
    task = linearised_task(functional(model), x, change, ["fc1"])
    (few, _), (many, _) = bootstrap(task, 3, seed=1), bootstrap(task, 6, seed=1)
    assert few["richness"].tolist() == many["richness"].tolist()[:3]
    assert spread(many)["richness"] > 0
    assert np.isnan(spread(few.iloc[:1])["richness"])


def test_groups_of_probes_are_drawn_and_chosen_whole() -> None:
    x, change = drawn(16, 6), drawn(16, 2, name="change")
    f = functional(mlp(6, (9,), 2, seed=0))
    twice, groups = torch.arange(16).repeat(2), 7 * torch.arange(16).flip(0).repeat(2)
    once = linearised_task(f, x, change, ["fc1"])
    task = linearised_task(f, x[twice], change[twice], ["fc1"])
    # Numbered from the last one on, so that the draws are of the same samples.
    flipped = linearised_task(f, x.flip(0), change.flip(0), ["fc1"])
    assert bootstrap(task, 4, 1, groups=groups)[0]["richness"].tolist() == pytest.approx(
        bootstrap(flipped, 4, 1)[0]["richness"].tolist(), abs=1e-3
    )
    richness = solve(once).richness
    grouped, single = by_probes(task, richness, 0, groups=groups), by_probes(flipped, richness, 0)
    assert grouped["n_probes"].tolist() == [8, 16, 32]
    assert grouped["richness"].tolist() == pytest.approx(single["richness"].tolist(), abs=1e-3)


def test_more_probes_ask_for_more() -> None:
    x, y = digits(80)
    model = mlp(64, (64,), 10, seed=0)
    task = linearised_task(functional(model), x, centred_one_hot(y, 10), ["fc1"])
    curve = by_probes(task, solve(task).richness, seed=0)
    assert curve["n_probes"].tolist() == [20, 40, 80]
    assert (np.diff(curve["richness"]) > 0).all()


def test_bad_tasks_are_refused() -> None:
    model, x, change = small()
    f = functional(model)
    with pytest.raises(BadInput, match="layers is empty"):
        linearised_task(f, x, change, [])
    with pytest.raises(BadInput, match=r"change must be \(n, C\) with n = 5"):
        linearised_task(f, x, change[:3], ["fc1"])
    with pytest.raises(BadInput, match="method='fast'"):
        linearised_task(f, x, change, ["fc1"], method="fast")
    with pytest.raises(BadInput, match="projections must be at least 1"):
        linearised_task(f, x, change, ["fc1"], projections=0)


def test_demand_is_the_mean_over_shares_and_three_of_them_give_the_same() -> None:
    model, x, change = small()
    task = linearised_task(functional(model), x, change, ["fc1", "fc2"])
    found = solve(task)
    alone = [solve(task.stopped_at(share)).richness for share in SHARES]
    assert found.richness == pytest.approx(np.mean(alone), abs=1e-9)
    assert found.richness_at(MIDDLE) == pytest.approx(alone[4], abs=1e-9)
    assert solve(task.stopped_at(*FEW_SHARES)).richness == pytest.approx(found.richness, abs=0.02)
    assert found.steepness == pytest.approx(found.richness_at(0.002) - found.richness_at(0.05))


def hard_part(share: float) -> Demand:
    """Demand of a linear network whose change has `share` of its square in a direction that is hard to learn."""
    w1 = torch.diag(torch.tensor([1.0, 1e-3], dtype=torch.float64))
    net = linear(2, (2,), 2).to(torch.float64)
    with torch.no_grad():
        net.get_parameter("fc1.weight").copy_(w1)
        net.get_parameter("head.weight").copy_(w1)
    change = torch.diag(torch.tensor([math.sqrt(1 - share), math.sqrt(share)], dtype=torch.float64))
    return solve(linearised_task(functional(net), torch.eye(2, dtype=torch.float64), change, ["fc1"]))


def test_a_hard_part_makes_a_slope_of_the_mean_not_a_leap() -> None:
    """At one share, R leaps where the part passes it; the mean over nine passes them one after another."""
    found = [hard_part(share) for share in np.linspace(0.0005, 0.15, 60)]
    at_one = np.diff([one.richness_at(MIDDLE) for one in found])
    mean = np.diff([one.richness for one in found])
    assert np.abs(mean).max() < 0.5 * np.abs(at_one).max()
    assert max(one.steepness for one in found) > 0.5


def test_an_ordinary_network_is_not_steep() -> None:
    model, x, change = small()
    assert 0 < solve(linearised_task(functional(model), x, change, ["fc1", "fc2"])).steepness < 0.5


def test_the_response_of_a_resample_is_that_of_its_coefficients() -> None:
    model, x, change = small()
    f = functional(model)
    task = linearised_task(f, x, change, ["fc1"]).stopped_at(MIDDLE)
    _, resamples = bootstrap(task, 4, seed=1)
    assert any(int(one.weights.max()) > 1 for one in resamples)
    for one in resamples:
        assert one.response is not None
        again = vjp(f, x, one.response.coefficients)
        for name, step in one.response.direction.items():
            torch.testing.assert_close(again[name], step, rtol=1e-9, atol=1e-12)


def test_resamples_from_known_features_differ_by_a_thousandth_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomfeat.location.demand.FACTORED", 0)
    model, x, change = mlp(4, (60, 50), 30, activation="relu", seed=0), drawn(24, 4), drawn(24, 30, name="change")
    weights = torch.bincount(torch.randint(24, (24,), generator=stream(0, "weights")), minlength=24).double()
    found = []
    for dtype in (torch.float32, torch.float64):
        task = linearised_task(functional(model, dtype=dtype), x, change, ["fc1", "fc2"], projections=3)
        assert task.rows is not None
        whole = solve(task)
        assert task.features.keys() == {"fc1", "fc2"}
        found.append([*whole.layers.values(), *solve(task, weights, rtol=ROUGH).layers.values()])
    assert found[0] == pytest.approx(found[1], abs=1e-3)
    assert found[0] != found[1]
