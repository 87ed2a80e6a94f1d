"""Small steps in place of forward mode where three digits do, also for features that move far more than the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomfeat.models.functional import Functional, functional
from geomfeat.tangent import feature_jvp, jvp
from geomfeat.tangent.jacobians import directional_derivative
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
    monkeypatch.setattr(directional_derivative, "TRIES", 1)
    f = functional(nn.Linear(5, 30), dtype=torch.float32)  # linear in its weights: exact for a step of any length
    f.known["small step", "outputs"] = 30.0
    direction = {name: normal(*value.shape, seed=7).float() for name, value in f.theta.items()}
    exact, rough = (jvp(f, X.float(), direction, rough=rough) for rough in (False, True))
    assert (exact - rough).norm() < 1e-3 * exact.norm()
