"""Networks are one network by the weights that they compute with, whatever these are made of."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, remove_weight_norm, weight_norm

from geomfeat.errors import CheckpointMismatch
from geomfeat.models.effective_weights import plain_network
from geomfeat.models.one_network import in_one_form, require_one_network, weight_shapes
from geomfeat.models.trained_parameters import moved_parameters

# The older weight_norm is deprecated, and still what many saved networks hold.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")

NORMS = {
    "weight_norm": parametrizations.weight_norm, "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal, "old weight_norm": weight_norm,
}  # fmt: skip


def normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(norm(nn.Linear(5, 4)), nn.Tanh(), nn.Sequential(norm(nn.Linear(4, 4)), nn.Linear(4, 2))).eval()


@pytest.mark.parametrize("name", NORMS)
def test_a_plain_network_computes_the_same_and_leaves_the_original(name: str) -> None:
    net, x = normed(NORMS[name]), torch.randn(6, 5)
    before = copy.deepcopy(net.state_dict())
    plain = plain_network(net)
    assert {n for n, _ in plain.named_parameters()} == set(weight_shapes(net))
    torch.testing.assert_close(plain(x), net(x))
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    assert net.state_dict().keys() == before.keys()


@pytest.mark.parametrize("name", NORMS)
def test_weights_made_of_others_and_plain_ones_are_of_one_network(name: str) -> None:
    net = normed(NORMS[name])
    plain = plain_network(net)
    require_one_network(net, plain, "no")
    require_one_network(plain, torch.compile(net, backend="eager"), "no")
    forms = in_one_form([net, plain])
    assert {n for n, _ in forms[0].named_parameters()} == {n for n, _ in forms[1].named_parameters()}
    for a, b in zip(forms[0].parameters(), forms[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_networks_of_one_form_stay_as_they_are() -> None:
    net = normed(parametrizations.weight_norm)
    other = copy.deepcopy(net)
    assert in_one_form([net, other])[0] is net
    assert in_one_form([net, nn.Linear(5, 4)])[0] is net


@pytest.mark.parametrize("other", ["wider", "another name"])
def test_another_architecture_is_refused_with_the_names(other: str) -> None:
    net = plain_network(normed(parametrizations.weight_norm))
    changed = copy.deepcopy(net)
    if other == "wider":
        changed[0] = nn.Linear(5, 7)
    else:
        changed.add_module("extra", nn.Linear(2, 2))
    match = r"0.weight: \(7, 5\) and \(4, 5\)" if other == "wider" else r"unexpected extra.bias, extra.weight"
    with pytest.raises(CheckpointMismatch, match=rf"that one \(.*{match}.*one network"):
        require_one_network(changed, net, "that one")


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "old weight_norm"])
@pytest.mark.parametrize("plain_first", [False, True])
def test_what_moved_is_reported_by_the_weights_in_either_form(name: str, plain_first: bool) -> None:
    start = normed(NORMS[name])
    end = plain_network(start)
    with torch.no_grad():
        end[2][1].weight.add_(1)
    before, after = (end, start) if plain_first else (start, end)
    assert moved_parameters(before, after) == {"2.1.weight"}


def test_a_weight_that_moved_counts_in_either_form() -> None:
    start = normed(parametrizations.weight_norm)
    end = plain_network(start)
    with torch.no_grad():
        end[0].weight.mul_(2)
    names = {f"0.parametrizations.weight.original{i}" for i in (0, 1)}
    assert moved_parameters(start, end) == names
    assert moved_parameters(end, start) == {"0.weight"}


def test_a_parametrisation_removed_from_one_layer_only() -> None:
    start = normed(weight_norm)
    end = normed(weight_norm)
    remove_weight_norm(end[0])
    require_one_network(start, end, "no")
    assert not moved_parameters(start, end)


def test_the_networks_given_keep_their_form() -> None:
    start, end = normed(parametrizations.weight_norm), normed(parametrizations.weight_norm)
    parametrize.remove_parametrizations(end[0], "weight")
    forms = in_one_form([start, end])
    assert not any(parametrize.is_parametrized(m) for m in forms[0].modules())
    assert parametrize.is_parametrized(start[0])
