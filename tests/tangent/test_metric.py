"""The metric of an optimizer: the kernel of scaled parameters is J D J', and D is the rule's, entry by entry."""

import math

import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import functional
from geomfeat.tangent import ntk
from geomfeat.tangent.jacobians.rows import jacobian
from geomfeat.tangent.metric import GRADIENT, RATES, STATE, metric_of
from geomfeat.tangent.optimizer_rates import OptimizerRates
from tests.geometry.clouds import normal


def squares(found: dict[str, Tensor | float], parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: torch.as_tensor(s, dtype=torch.float64).expand(parameters[name].shape) ** 2 for name, s in found.items()
    }


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def test_the_kernel_of_scaled_parameters_is_that_of_the_metric() -> None:
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    f, x = functional(net), normal(5, 3)
    rates = OptimizerRates({name: float(i + 1) for i, name in enumerate(f.theta)}, {"0.weight": normal(6, 3).abs()})
    metric = metric_of(rates, f.theta, dict)
    d = squares(dict(metric.scale), f.theta)
    j = jacobian(f, x)
    flat = torch.cat([d[name].flatten() for name in f.theta])
    torch.testing.assert_close(ntk(f.scaled(metric.scale), x, outputs="full").gram, j * flat @ j.T)
    assert metric.source == STATE
    assert float(flat.mean()) == pytest.approx(1)


def test_rates_alone_are_the_metric() -> None:
    theta = {"a": torch.ones(4), "b": torch.ones(2, 2)}
    metric = metric_of(OptimizerRates({"a": 3.0, "b": 1.0, "frozen": 0.0}), theta, dict)
    assert metric.source == RATES
    d = squares(dict(metric.scale), theta)
    assert float(d["a"][0] / d["b"][0, 0]) == pytest.approx(3)
    assert set(d) == {"a", "b"}


def test_adaptive_rates_are_divided_by_the_size_of_gradients() -> None:
    theta = {"a": torch.ones(50), "b": torch.ones(8)}
    size, pulled = normal(50).abs(), {"a": normal(50, seed=1), "b": normal(8, seed=2)}
    every = frozenset(theta)
    with_state = metric_of(
        OptimizerRates({"a": 0.1, "b": 0.2}, {"a": size, "b": pulled["b"].abs()}, every), theta, dict
    )
    found = squares(dict(with_state.scale), theta)
    want = {"a": 0.1 / (size + 0.01 * rms(size)), "b": 0.2 / (pulled["b"].abs() + 0.01 * rms(pulled["b"]))}
    ratio = float(found["a"][0] / want["a"][0])
    for name in theta:
        torch.testing.assert_close(found[name], ratio * want[name])
    without = metric_of(OptimizerRates({"a": 0.1, "b": 0.2}, {}, every), theta, lambda: pulled)
    found = squares(dict(without.scale), theta)
    want = {name: rate / (g.abs() + 0.1 * rms(g)) for (name, g), rate in zip(pulled.items(), (0.1, 0.2), strict=True)}
    ratio = float(found["a"][0] / want["a"][0])
    for name in theta:
        torch.testing.assert_close(found[name], ratio * want[name])
    assert (with_state.source, without.source) == (STATE, GRADIENT)


def test_a_gradient_that_is_only_rounding_counts_as_a_usual_one() -> None:
    """That of a bias over balanced classes: its rate must not follow from its last digits."""
    theta = {"w": torch.zeros(2), "b": torch.zeros(1)}
    rates = OptimizerRates({"w": 1.0, "b": 1.0}, adaptive=frozenset(theta))
    weight = torch.tensor([0.3, -0.3], dtype=torch.float64)
    found = [
        metric_of(rates, theta, lambda last=last: {"w": weight, "b": torch.tensor([last], dtype=torch.float64)}).scale
        for last in (1e-17, -3e-15, 0.3)
    ]
    assert all(float(one["b"]) == pytest.approx(1.0) for one in found)
    assert all(torch.as_tensor(one["w"]).tolist() == pytest.approx([1.0, 1.0]) for one in found)


def test_orthogonal_updates_count_by_their_length() -> None:
    theta, g = {"w": torch.ones(4, 3), "b": torch.ones(4)}, normal(4, 3)
    rates = OptimizerRates({"w": 0.5, "b": 1.0}, orthogonal=frozenset({"w"}))
    found = squares(dict(metric_of(rates, theta, lambda: {"w": g}).scale), theta)
    assert float(found["w"][0, 0] / found["b"][0]) == pytest.approx(0.5 * math.sqrt(3) / float(g.norm()))


@pytest.mark.parametrize(("rates", "why"), [({"a": 1.0}, "no rate"), ({"a": 1.0, "b": 0.0}, "a rate of 0")])
def test_what_moved_without_a_rate_is_refused(rates: dict[str, float], why: str) -> None:
    with pytest.raises(BadInput, match=f"'b' moved, but has {why}"):
        metric_of(OptimizerRates(rates), {"a": torch.ones(2), "b": torch.ones(2)}, dict)
