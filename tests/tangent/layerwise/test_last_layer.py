"""The last layer found in the graph: its weights, and features that a hook would see."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.models.functional import functional
from geomfeat.models.readouts.reading import reading_of
from geomfeat.numerics import stream
from geomfeat.tangent.layerwise.last_layer import last_layer


def classifier(*, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 20, bias=bias))


def inputs(n: int = 6) -> Tensor:
    return torch.randn(n, 5, generator=stream(0, "last layer"))


@pytest.mark.parametrize("bias", [True, False])
def test_features_are_the_inputs_of_the_last_layer(bias: bool) -> None:
    net = classifier(bias=bias)
    found = last_layer(functional(net), inputs().double())
    assert found is not None
    assert (found.name, found.bias_name) == ("2.weight", "2.bias" if bias else None)
    features = found.features()
    assert features is not None
    torch.testing.assert_close(features, net[:2].double()(inputs().double()), rtol=1e-9, atol=1e-12)


def test_a_metric_of_the_weights_does_not_hide_it() -> None:
    net = classifier()
    scale: dict[str, Tensor | float] = {"2.weight": torch.rand(20, 8).double() + 0.5, "0.weight": 3.0}
    found = last_layer(functional(net).scaled(scale), inputs().double())
    assert found is not None
    torch.testing.assert_close(found.weight, net[2].weight.detach().double())


def test_a_language_model_with_tied_weights_that_is_read_centred() -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("needs the package transformers (extra [models])")
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=40, n_positions=8, bos_token_id=0, eos_token_id=0)
    net = GPT2LMHeadModel(config).eval().double()
    tokens: dict[str, Any] = {"input_ids": torch.randint(0, 40, (5, 7), generator=stream(0, "tokens"))}
    found = last_layer(functional(net, readout=reading_of(net, "last", "cross-entropy")), tokens)
    assert found is not None
    assert (found.name, found.centred) == ("transformer.wte.weight", True)
    torch.testing.assert_close(found.seen.mean(0), torch.zeros(16, dtype=torch.float64), atol=1e-12, rtol=0)
    features = found.features()
    assert features is not None
    seen = net.transformer(**tokens).last_hidden_state[:, -1]
    torch.testing.assert_close(features, seen.detach(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(5, 20), nn.Tanh()),  # something follows
        nn.Sequential(nn.Linear(5, 20), nn.Unflatten(1, (1, 20)), nn.Conv1d(1, 2, 1), nn.Flatten()),
    ],
)
def test_other_ends_have_none(net: nn.Module) -> None:
    assert last_layer(functional(net), inputs().double()) is None


def test_more_features_than_outputs_are_not_solved_for() -> None:
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))
    found = last_layer(functional(net), inputs().double())
    assert found is not None
    assert found.features() is None
