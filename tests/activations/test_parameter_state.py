"""Weights come back as they were, whatever the forward pass writes into them, and nothing else is copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geomfeat.activations import ExtractOptions, extract, fired_layers, hidden_weight_layers
from geomfeat.activations.model_state import evaluating
from geomfeat.activations.parameter_state import same_parameters
from geomfeat.errors import BadInput
from geomfeat.study import StudyOptions, analyze
from tests.activations.zoo import mlp


class Writing(nn.Module):
    """A linear layer that changes its own weight before it uses it, in one of the ways that torch allows."""

    def __init__(self, write: Callable[[Any], Any]) -> None:
        super().__init__()
        self.weight, self.write = nn.Parameter(3 * torch.ones(4, 5)), write
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.write(self)
        return self.head(torch.tanh(F.linear(x, self.weight)))


def swapped_in_place_of_its_memory(layer: Writing) -> None:
    layer.weight.data = torch.renorm(layer.weight.data, p=2, dim=0, maxnorm=1)


def replaced(layer: Writing) -> None:
    layer.weight = nn.Parameter(layer.weight / 2)


WRITES: dict[str, Callable[[Any], Any]] = {
    "in place": lambda layer: layer.weight.div_(2),
    "through .data": lambda layer: layer.weight.data.div_(2),
    "through a view": lambda layer: layer.weight.view(-1)[3:].zero_(),
    "as an output": lambda layer: torch.mul(layer.weight, 0.5, out=layer.weight),
    "in a list": lambda layer: torch._foreach_mul_([layer.weight], 0.5),
    "by index": lambda layer: layer.weight.__setitem__(0, 0.0),
    "swapped memory": swapped_in_place_of_its_memory,
    "replaced parameter": replaced,
}


def embedding(kind: type[nn.Module]) -> tuple[nn.Module, Tensor]:
    table = kind(11, 8, max_norm=1.0)
    with torch.no_grad():
        table.weight.mul_(3)
    width = 8 if kind is nn.EmbeddingBag else 40
    net = nn.Sequential(table, nn.Flatten(), nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, 3))
    return net, torch.randint(0, 11, (10, 5), generator=torch.Generator().manual_seed(0))


def state(model: nn.Module) -> dict[str, Any]:
    return {name: (id(p), p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}


def assert_same(model: nn.Module, before: dict[str, Any]) -> None:
    after = state(model)
    assert after.keys() == before.keys()
    for name, (identity, memory, values) in before.items():
        assert after[name][:2] == (identity, memory), name
        assert torch.equal(after[name][2], values), name


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_an_embedding_with_max_norm_keeps_its_rows(kind: type[nn.Module]) -> None:
    net, tokens = embedding(kind)
    before = state(net)
    fired_layers(net, tokens)
    hidden_weight_layers(net, tokens)
    seen = extract(net, tokens, progress=False, options=ExtractOptions(batch_size=7))
    assert_same(net, before)
    assert float(seen["0"].x.reshape(-1, 8).norm(dim=1).max()) < 1.001 or kind is nn.EmbeddingBag
    few = {"n_bootstrap": 2, "n_probes": 4}
    analyze(
        net, tokens[:4], layers="leaf", measures=["stable_rank"], location=few, progress=False,
        options=StudyOptions(umap=False),
    )  # fmt: skip
    assert_same(net, before)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_way_of_writing_into_a_weight_is_undone(write: Callable[[Any], Any]) -> None:
    net = Writing(write)
    before = state(net)
    extract(net, torch.ones(9, 5), layers=["head"], progress=False, options=ExtractOptions(batch_size=4))
    assert_same(net, before)


def test_weights_come_back_after_an_error_too() -> None:
    def write_and_fail(layer: Writing) -> None:
        layer.weight.zero_()
        raise KeyboardInterrupt

    net = Writing(write_and_fail)
    before = state(net)
    with pytest.raises(KeyboardInterrupt):
        extract(net, torch.ones(4, 5), progress=False)
    assert_same(net, before)
    assert not net._forward_hooks
    assert not net._forward_pre_hooks
    assert torch.ones(2).add_(1).tolist() == [2, 2]  # no mode is left on


def test_a_weight_that_only_a_later_batch_overwrites_is_reported() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(2, 3), nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            if float(x.max()) > 50:
                self.fc.weight.zero_()
            return self.head(self.fc(x))

    x = torch.arange(200.0).reshape(100, 2) / 3
    net = Sometimes()

    def two_batches() -> None:
        with evaluating(net, torch.device("cpu")), torch.no_grad():
            net(x[:4])
            net(x)

    with pytest.raises(BadInput, match=r"writes into the parameter 'weight' of a Linear.*copy\.deepcopy\(model\)"):
        two_batches()


def test_only_the_first_pass_is_watched_and_nothing_is_copied() -> None:
    model, x = mlp()
    versions = [p._version for p in model.parameters()]
    with same_parameters(model), torch.no_grad():
        before = torch.utils._python_dispatch._get_current_dispatch_mode()
        model.eval()(x)
        after = torch.utils._python_dispatch._get_current_dispatch_mode()
    assert before is None
    assert after is None
    assert [p._version for p in model.parameters()] == versions
