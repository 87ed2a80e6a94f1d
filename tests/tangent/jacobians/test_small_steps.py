"""Small steps in place of forward mode where three digits do, also for features that move far more than the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomfeat.models.functional import Functional, functional
from geomfeat.tangent import feature_jvp, jvp
from geomfeat.tangent.jacobians import small_steps
from geomfeat.tangent.jacobians.products import value_and_jvp, value_and_vjp
from geomfeat.tangent.jacobians.small_steps import moved_along, moved_in_place
from tests.geometry.clouds import normal

X = normal(6, 5)


def network(dtype: torch.dtype, gain: float = 1.0) -> Functional:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 30))
    with torch.no_grad():
        net[2].weight.mul_(gain)
    return functional(net, dtype=dtype)


@pytest.mark.parametrize("gain", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("length", [1e-6, 1.0, 1e6])
def test_features_and_tangents_agree_to_three_digits(gain: float, length: float) -> None:
    f = network(torch.float32, gain)
    direction = {name: length * normal(*value.shape, seed=7).float() for name, value in f.theta.items()}
    exact, rough = (feature_jvp(f, X.float(), ["1", "3"], direction, rough=rough) for rough in (False, True))
    for name, (feature, tangent) in exact.items():
        assert (rough[name][1] - tangent).norm() < 3e-3 * tangent.norm()
        assert (rough[name][0] - feature).norm() < 3e-3 * feature.norm()
    outputs = [jvp(f, X.float(), direction, rough=rough) for rough in (False, True)]
    assert 0 < (outputs[0] - outputs[1]).norm() < 3e-3 * outputs[0].norm()


def test_the_length_of_a_step_is_kept_for_the_next_direction() -> None:
    f = network(torch.float32)
    one, other = ({name: normal(*v.shape, seed=seed).float() for name, v in f.theta.items()} for seed in (1, 2))
    jvp(f, X.float(), one, rough=True)
    kept = f.known["small step", "outputs"]
    jvp(f, X.float(), other, rough=True)
    assert f.known["small step", "outputs"] == kept


def test_float64_and_a_direction_that_moves_nothing() -> None:
    f = network(torch.float64)
    direction = {name: normal(*value.shape, seed=7) for name, value in f.theta.items()}
    assert torch.equal(jvp(f, X, direction), jvp(f, X, direction, rough=True))
    still = {name: torch.zeros_like(value) for name, value in network(torch.float32).theta.items()}
    assert not jvp(network(torch.float32), X.float(), still, rough=True).any()


def test_a_step_that_is_still_too_long_at_the_last_try_is_the_one_divided_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_steps, "TRIES", 1)
    f = functional(nn.Linear(5, 30), dtype=torch.float32)  # linear in its weights: exact for a step of any length
    f.known["small step", "outputs"] = 30.0
    direction = {name: normal(*value.shape, seed=7).float() for name, value in f.theta.items()}
    exact, rough = (jvp(f, X.float(), direction, rough=rough) for rough in (False, True))
    assert (exact - rough).norm() < 1e-3 * exact.norm()


@pytest.mark.parametrize("bend", [nn.Tanh, nn.ReLU])
def test_steps_from_known_values_are_exact_to_three_digits_and_one_pass_each(bend: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 200), bend(), nn.Linear(200, 200), bend(), nn.Linear(200, 30))
    f, x = functional(net, dtype=torch.float32), normal(30, 5).float()
    direction = {name: normal(*v.shape, seed=7).float() for name, v in f.theta.items()}
    exact = feature_jvp(f, x, ["1", "3"], direction)
    values = {name: feature for name, (feature, _) in exact.items()}
    feature_jvp(f, x, ["1", "3"], direction, rough=True, values=values)  # finds the length of the step
    passes: list[int] = []
    net = f.model.register_forward_pre_hook(lambda *_: passes.append(1))
    rough = feature_jvp(f, x, ["1", "3"], direction, rough=True, values=values, batch_size=30)
    net.remove()
    assert len(passes) == 1
    for name, (_, tangent) in exact.items():
        assert abs(rough[name][1].norm() / tangent.norm() - 1) < 1e-3
        assert 0 < (rough[name][1] - tangent).norm() < 0.02 * tangent.norm()  # a few units bend on the way
    outputs, product = value_and_jvp(f, x, direction)
    near = value_and_jvp(f, x, direction, rough=True, values=outputs, batch_size=7)[1]
    assert 0 < (near - product).norm() < 5e-3 * product.norm()


def test_values_come_with_products() -> None:
    f, v = network(torch.float64), normal(6, 30, seed=3)
    outputs, gradients = value_and_vjp(f, X, v, batch_size=4)
    assert torch.equal(outputs, value_and_jvp(f, X, f.theta, batch_size=4)[0])
    theta = {name: value.clone().requires_grad_() for name, value in f.theta.items()}
    plain = torch.autograd.grad((f(theta, X) * v).sum(), list(theta.values()))
    for name, gradient in zip(theta, plain, strict=True):
        torch.testing.assert_close(gradients[name], gradient)


def test_what_moves_too_little_to_be_seen_beside_the_rest_is_taken_exactly() -> None:
    f = network(torch.float32)
    direction = {name: torch.zeros_like(value) for name, value in f.theta.items()}
    direction["0.bias"] += 1e-6
    direction["2.bias"] += 1.0
    exact, rough = (feature_jvp(f, X.float(), ["1", "3"], direction, rough=rough) for rough in (False, True))
    assert torch.equal(exact["1"][1], rough["1"][1])
    assert exact["1"][1].any()


@pytest.mark.parametrize("first", [1e-5, 1e-4, 1e3])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_direction_that_is_returned_anew_may_be_lost(
    first: float, batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_steps, "FIRST_STEP", first)
    f, x = network(torch.float32), X.float()
    direction = {name: normal(*value.shape, seed=7).float() for name, value in f.theta.items()}
    kept = {name: value.clone() for name, value in direction.items()}
    exact = jvp(f, x, direction)
    calls: list[int] = []

    def anew() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {name: value.clone() for name, value in kept.items()}

    for _ in range(2):
        found = jvp(f, x, anew, rough=True, batch_size=batch_size)
        assert (found - exact).norm() < 3e-3 * exact.norm()
    assert len(calls) == (3 if batch_size is None else 2)  # for another try, which the first step needs
    assert (jvp(f, x, direction, rough=True) - exact).norm() < 3e-3 * exact.norm()
    assert all(torch.equal(direction[name], value) for name, value in kept.items())


def test_a_lost_direction_is_asked_for_again_where_a_small_step_does_not_do() -> None:
    f = network(torch.float32)
    direction = {name: torch.zeros_like(value) for name, value in f.theta.items()}
    direction["0.bias"] += 1e-6
    direction["2.bias"] += 1.0
    calls: list[int] = []

    def anew() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {name: value.clone() for name, value in direction.items()}

    exact = feature_jvp(f, X.float(), ["1", "3"], direction)
    for count in (2, 3):  # then it is known that no step does, and none is taken
        rough = feature_jvp(f, X.float(), ["1", "3"], anew, rough=True)
        assert torch.equal(exact["1"][1], rough["1"][1])
        assert len(calls) == count


def test_weights_moved_in_place_of_their_direction() -> None:
    torch.manual_seed(0)
    theta = {name: torch.randn(3, 4) for name in ("own", "one", "same", "repeated", "across")}
    shared = torch.randn(3, 4)
    direction = {
        "own": torch.randn(3, 4),
        "one": shared,
        "same": shared,
        "repeated": torch.randn(3, 1).expand(3, 4),
        "across": torch.randn(4, 3).mT,
    }
    expected = moved_along(theta, direction, 0.3)
    places = {name: value.data_ptr() for name, value in direction.items()}
    found = moved_in_place(theta, direction, 0.3)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert {name for name, value in found.items() if value.data_ptr() == places[name]} == {"own", "across"}
