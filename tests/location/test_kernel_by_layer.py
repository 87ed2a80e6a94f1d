"""The kernel's change by layer: shares against an explicit Jacobian, and layers within layers."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from geomfeat.location.kernel_by_layer import change_by_layer, grams_by_module
from geomfeat.models.functional import functional
from tests.geometry.clouds import normal

X = normal(7, 3, seed=1)


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(3, 5), nn.Tanh(), nn.Sequential(nn.Linear(5, 4), nn.Tanh()), nn.Linear(4, 2)
    ).double()


def explicit(model: nn.Module, prefix: str) -> torch.Tensor:
    theta = {name: p.detach() for name, p in model.named_parameters()}
    rows = jacrev(lambda t: functional_call(model, t, X))(theta)
    return sum(
        j.reshape(14, -1) @ j.reshape(14, -1).T for name, j in rows.items() if name.startswith(prefix)
    )  # fmt: skip


def test_shares_are_those_of_an_explicit_jacobian_and_sum_to_one_with_the_readout() -> None:
    before, after = net(0), net(1)
    shares = change_by_layer(*(grams_by_module(functional(m), X) for m in (before, after)), ["0", "2"])
    whole = explicit(after, "") - explicit(before, "")
    for layer, share in (*shares.items(), ("3", 1 - sum(shares.values()))):
        change = explicit(after, f"{layer}.") - explicit(before, f"{layer}.")
        assert share == pytest.approx(float((change * whole).sum() / whole.square().sum()), abs=1e-9)


def test_a_parameter_counts_in_the_innermost_layer_that_holds_it() -> None:
    grams = [grams_by_module(functional(net(seed)), X) for seed in (0, 1)]
    outer, both = change_by_layer(*grams, ["2"]), change_by_layer(*grams, ["2", "2.0"])
    assert both == {"2": 0.0, "2.0": pytest.approx(outer["2"])}


def test_a_kernel_at_rest_has_no_shares() -> None:
    model = net(0)
    grams = [grams_by_module(functional(m), X) for m in (model, copy.deepcopy(model))]
    assert change_by_layer(*grams, ["0"])["0"] != change_by_layer(*grams, ["0"])["0"]  # NaN
