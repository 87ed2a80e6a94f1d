"""The weight a module computes with, whatever it is made of: by its own forward pass, and set as a constructor does."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from geomfeat.models.effective_weights import (
    effective_weights,
    inside_parametrization,
    is_reparametrised,
    makers_of,
    set_weights,
    without_reparametrisation,
)


class Doubled(nn.Module):
    """A parametrization that cannot be inverted."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def doubled(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


NORMS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "own": doubled,
    "old weight_norm": weight_norm,
    "old weight_norm of all": lambda layer: weight_norm(layer, dim=None),
    "old spectral_norm": spectral_norm,
}


def made(name: str, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its older functions deprecated
        torch.manual_seed(seed)
        return NORMS[name](nn.Linear(5, 4)).eval()


@pytest.mark.parametrize("name", NORMS)
def test_the_weight_is_what_the_forward_pass_multiplies_by(name: str) -> None:
    layer = made(name)
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(1.5)  # where a hook computed the weight before, it is stale
    weight = effective_weights(layer)
    assert set(weight) == {"weight", "bias"}
    with torch.no_grad():
        torch.testing.assert_close(layer(torch.eye(5)) - layer.bias, weight["weight"].T)
    assert is_reparametrised(layer)
    assert not is_reparametrised(nn.Linear(2, 1))


@pytest.mark.parametrize("name", NORMS)
def test_looking_changes_neither_mode_nor_state(name: str) -> None:
    layer = made(name).train()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    effective_weights(layer)
    assert all(module.training for module in layer.modules())
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("name", NORMS)
def test_a_plain_twin_computes_the_same_and_the_layer_stays_as_it_is(name: str) -> None:
    layer = made(name)
    plain = without_reparametrisation(layer)
    assert type(plain) is nn.Linear
    assert {key for key, _ in plain.named_parameters()} == {"weight", "bias"}
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(plain(x), layer(x))
    assert is_reparametrised(layer)
    layer.train()(x)


@pytest.mark.parametrize("name", NORMS)
def test_weights_are_set_as_the_constructor_would(name: str) -> None:
    layer, twin = made(name), nn.Linear(5, 4)
    values = {key: p.detach() for key, p in twin.named_parameters()}
    set_weights(layer, values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = NORMS[name](twin)
    if "spectral" in name:
        wanted.train()
        for _ in range(30):
            wanted(torch.zeros(1, 5))
        wanted.eval()
    found, expected = effective_weights(layer)["weight"], effective_weights(wanted)["weight"]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_makers_of_a_weight_are_named() -> None:
    assert makers_of(made("old weight_norm")) == {"weight": ["weight_g", "weight_v"]}
    assert makers_of(made("weight_norm")) == {
        "weight": ["parametrizations.weight.original0", "parametrizations.weight.original1"]
    }
    assert makers_of(nn.Linear(2, 1)) == {}


def test_names_inside_parametrizations_are_reported() -> None:
    names = ["parametrizations", "a.parametrizations.weight.0", "a.b", "my_parametrizations.a"]
    assert [inside_parametrization(name) for name in names] == [True, True, False, False]
