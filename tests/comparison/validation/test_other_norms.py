"""Demand in the norm of weights and of the kernel: against functional derivatives, and where a step is the response."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from geomfeat.comparison.validation.other_norms import kernel_norms, weight_norms
from geomfeat.location.initial_states import Start, observe, start_from
from geomfeat.network import Network
from geomfeat.tangent import vjp


def tanh_net(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def start_with(optimizer: dict[str, float] | None) -> Start:
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(3)).double()
    network = Network.prepare(tanh_net(1), x, initial=tanh_net(0), optimizer=optimizer)
    return start_from(tanh_net(0), observe(network, None, n_probes=20))


@pytest.fixture(scope="module")
def start() -> Start:
    return start_with(None)


def stepped(start: Start, size: float) -> nn.Module:
    """The initial network after `size` times the linear response."""
    coefficients = start.demand.response.coefficients.reshape(start.task.change.shape)
    direction = vjp(start.task.f, start.task.inputs, coefficients)
    model = copy.deepcopy(start.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += size * direction[name] * start.task.f.scale.get(name, 1.0)
    return model


@pytest.mark.parametrize("optimizer", [None, {"*": 1.0, "2.*": 0.1, "4.bias": 5.0}])
def test_a_small_step_along_the_response_moves_as_demanded(optimizer: dict[str, float] | None) -> None:
    start = start_with(optimizer)
    assert bool(start.task.f.scale) == (optimizer is not None)
    model = stepped(start, 1e-5)
    for name, (demand, movement) in weight_norms(start, model).items():
        assert movement == pytest.approx(demand - 5, abs=1e-8), name
    demand, movement = kernel_norms(start, model)
    assert movement == pytest.approx(demand - 5, abs=1e-4)


def test_weight_demand_is_of_every_module_with_weights(start: Start) -> None:
    found = weight_norms(start, stepped(start, 1.0))
    assert list(found) == ["0", "2", "4"]
    assert all(demand == pytest.approx(movement) for demand, movement in found.values())


def test_kernel_demand_is_the_derivative_of_the_kernel(start: Start) -> None:
    model, x = start.model, start.task.inputs
    coefficients = start.demand.response.coefficients.reshape(start.task.change.shape)
    direction = vjp(start.task.f, x, coefficients)
    theta = {name: p.detach() for name, p in model.named_parameters()}

    def kernel(at: dict[str, Tensor]) -> Tensor:
        rows = torch.func.jacrev(lambda t: torch.func.functional_call(model, t, (x,)))(at)
        flat = torch.cat([r.reshape(*r.shape[:2], -1) for r in rows.values()], 2)
        return torch.einsum("icp,jcp->ij", flat, flat)

    value, tangent = torch.func.jvp(kernel, (theta,), (direction,))
    demand, _ = kernel_norms(start, model)
    assert demand == pytest.approx(math.log10(float(tangent.norm() / value.norm())), abs=1e-7)


def test_what_does_not_move_reads_minus_infinity(start: Start) -> None:
    assert kernel_norms(start, start.model)[1] == -math.inf
    assert all(movement == -math.inf for _, movement in weight_norms(start, start.model).values())


def test_modules_that_start_at_zero_are_left_out() -> None:
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(3)).double()
    zero = tanh_net(0)
    with torch.no_grad():
        for parameter in zero[4].parameters():
            parameter.zero_()
    start = start_from(zero, observe(Network.prepare(tanh_net(1), x, initial=zero), None, n_probes=20))
    assert list(weight_norms(start, tanh_net(1))) == ["0", "2"]
