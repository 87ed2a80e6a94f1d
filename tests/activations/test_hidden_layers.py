"""Which modules fire, and which of them are hidden layers with weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from geomfeat.activations import extract, fired_layers, hidden_weight_layers, select_layers
from geomfeat.errors import BadInput
from tests.activations.zoo import ZOO, mlp, transformer_encoder_masked

ENCODER = [f"encoder.layers.{i}.{part}" for i in (0, 1) for part in ("self_attn", "linear1", "linear2")]
RESIDUAL = ["stem", *[f"{b}.conv{i}" for b in ("layer1.0", "layer1.1", "layer2.0") for i in (1, 2)]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlp", ["0", "3"]),
        ("conv_bn_residual", RESIDUAL),
        ("lstm", ["rnn[0]"]),
        ("gru_cell_loop", ["cell"]),
        ("transformer_encoder_masked", ENCODER),
        ("shared_weights", ["first", "tied"]),
    ],
)
def test_hidden_weight_layers_of_the_zoo(name: str, expected: list[str]) -> None:
    model, inputs = ZOO[name]()
    assert hidden_weight_layers(model, inputs) == expected


def test_inputs_as_tuple_give_the_same() -> None:
    model, inputs = transformer_encoder_masked(as_tuple=True)
    assert hidden_weight_layers(model, inputs) == ENCODER


class Scaled(nn.Module):
    """A network whose output is not the tensor of its last layer."""

    def __init__(self, after: Any) -> None:
        super().__init__()
        self.hidden, self.readout, self.after = nn.Linear(3, 4), nn.Linear(4, 2), after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.readout(torch.relu(self.hidden(x))))


@pytest.mark.parametrize(
    "after",
    [
        lambda y: y / 7,
        lambda y: y.relu_(),
        lambda y: y.log_softmax(1),
        lambda y: y[..., None],
        lambda y: {"logits": y, "probabilities": y.softmax(1)},
        lambda y: (y - y.mean(0)).detach(),
    ],
    ids=["scaled", "in place", "normalised", "reshaped", "mapping", "detached"],
)
def test_a_readout_is_found_when_its_output_is_changed_afterwards(after: Any) -> None:
    assert hidden_weight_layers(Scaled(after), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))) == [
        "hidden"
    ]


def test_a_hidden_layer_as_wide_as_the_output_is_hidden() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(inplace=True), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    assert hidden_weight_layers(net, torch.ones(5, 3)) == ["0", "2"]


def test_both_readouts_of_a_centred_network_are_left_out() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.now, self.then = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)) for _ in range(2))
            self.then.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return 5 * (self.now(x) - self.then(x))

    assert hidden_weight_layers(Centred(), torch.ones(5, 3)) == ["now.0", "then.0"]


def test_every_head_of_several_is_readout() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.relu(self.body(x))
            return self.a(h), self.b(h)

    assert hidden_weight_layers(Heads(), torch.ones(5, 3)) == ["body"]
    chosen = hidden_weight_layers(Heads(), torch.ones(5, 3), readout=lambda out, _: torch.cat(out, 1))
    assert chosen == ["body"]


def test_nothing_is_hidden_in_a_single_layer_or_without_weights() -> None:
    assert hidden_weight_layers(nn.Sequential(nn.Linear(3, 2)), torch.ones(5, 3)) == []
    assert hidden_weight_layers(nn.Sequential(nn.ReLU()), torch.ones(5, 3)) == []
    assert hidden_weight_layers(nn.Linear(3, 2), torch.ones(5, 3)) == []


def test_embeddings_and_uncalled_modules_are_no_hidden_layers() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.unused = nn.Embedding(7, 4), nn.Linear(4, 4)
            self.mix, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(torch.relu(self.mix(self.table(ids))).mean(1))

    assert hidden_weight_layers(Tokens(), torch.randint(0, 7, (5, 3))) == ["mix"]
    assert fired_layers(Tokens(), torch.randint(0, 7, (5, 3))) == ["table", "mix", "head"]


def test_frozen_layers_count() -> None:
    model, x = mlp()
    model.requires_grad_(False)
    assert hidden_weight_layers(model, x) == ["0", "3"]
    assert not any(p.requires_grad for p in model.parameters())


def test_layers_fire_in_the_order_of_their_calls() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.b, self.a, self.never = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    assert fired_layers(Backwards(), torch.ones(3, 2)) == ["a", "b"]


def test_one_sample_is_enough() -> None:
    model, x = mlp(1)
    assert fired_layers(model, x) == ["0", "1", "2", "3", "4", "5"]
    assert hidden_weight_layers(model, x) == ["0", "3"]


def test_layers_work_on_every_device(device: str) -> None:
    for build in ZOO.values():
        model, inputs = build()
        assert hidden_weight_layers(model, inputs, device=device) == hidden_weight_layers(model, inputs)
        assert fired_layers(model, inputs, device=device) == fired_layers(model, inputs)


def test_inputs_that_the_model_cannot_take_are_named() -> None:
    net = nn.Sequential(nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 2))
    for inputs, message in ((torch.ones(5, 50), r"\(2, 50\) float32"), (torch.ones(5, 64).long(), r"\(2, 64\) int64")):
        for work in (fired_layers, hidden_weight_layers, extract):
            with pytest.raises(BadInput, match=rf"Sequential cannot be called on these inputs \({message}"):
                work(net, inputs)


class Bare(nn.Module):
    """Parameters of the model itself, with modules called on what they make."""

    def __init__(self, *shown: nn.Module) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4, 2))
        self.before, self.shown = nn.Identity(), nn.ModuleList(shown)
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.before(x) @ self.a
        for module in self.shown:
            h = module(h)
        return self.out(torch.tanh(h) @ self.b)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Bare(nn.Tanh()), ["shown.0"]),
        (Bare(nn.ReLU(), nn.Identity()), ["shown.0", "shown.1"]),
        (Bare(), []),
        (Bare(nn.Linear(4, 4)), ["shown.0"]),
        (nn.Linear(3, 2), []),
        (nn.Sequential(Bare(nn.Tanh())), ["0.shown.0"]),
        (nn.Sequential(nn.Identity(), Bare(nn.Tanh()), nn.Softmax(1), nn.Flatten()), ["1.shown.0"]),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), nn.ReLU()), []),
        (nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Flatten()), []),
    ],
    ids=[
        "one",
        "two",
        "none",
        "a layer with weights",
        "one layer",
        "wrapped",
        "wrapped with more",
        "one made of parts",
        "one layer and more",
    ],
)
def test_bare_parameters_have_hidden_layers_where_modules_are_called(model: nn.Module, expected: list[str]) -> None:
    assert hidden_weight_layers(model, torch.randn(5, 3)) == expected


def test_what_makes_a_weight_is_no_layer() -> None:
    norm = nn.utils.parametrizations.weight_norm
    model = nn.Sequential(norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))
    assert hidden_weight_layers(model, torch.randn(5, 3)) == ["0"]
    for layers in ("*", "leaf", "weights", "re:."):
        assert not any("parametrizations" in name for name in extract(model, torch.randn(5, 3), layers=layers))


@pytest.mark.parametrize("sizes", [(4,), (4, 4), (4, 3), (4, 4, 2)])
@pytest.mark.parametrize("labelled", [True, False])
def test_a_list_of_batches_is_refused_with_how_to_give_it(sizes: tuple[int, ...], labelled: bool) -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    batches = [(torch.ones(n, 3), torch.zeros(n)) if labelled else torch.ones(n, 3) for n in sizes]
    if len(sizes) > 1 or labelled:
        with pytest.raises(BadInput, match=r"DataLoader\(batches, batch_size=None\), or one tensor .torch\.cat"):
            extract(net, batches)
    assert extract(net, DataLoader(batches, batch_size=None))["0"].n == sum(sizes)


def test_other_inputs_that_do_not_fit_are_not_called_batches() -> None:
    with pytest.raises(BadInput, match=r"trained on$"):
        extract(nn.Sequential(nn.Linear(3, 2)), torch.ones(4, 5))


class Adapter(nn.Module):
    """A layer as peft makes it: the one that it adapts, and the factors of a term that starts at 0."""

    adapter_layer_names = ("down", "up")

    def __init__(self, base: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base_layer, self.down, self.up = base, nn.Linear(inputs, 1), nn.Linear(1, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.up(self.down(x))


def test_a_layer_with_an_adapter_counts_as_one() -> None:
    net = nn.Sequential(Adapter(nn.Linear(3, 4), 3, 4), nn.Tanh(), nn.Linear(4, 2))
    assert hidden_weight_layers(net, torch.ones(5, 3)) == ["0"]
    assert select_layers(net, "weights") == ["0", "2"]
    assert select_layers(net, "leaf") == ["0.base_layer", "0.down", "0.up", "1", "2"]
    table = nn.Sequential(Adapter(nn.Embedding(6, 3), 1, 3), nn.Flatten(), nn.Linear(15, 4), nn.Linear(4, 2))
    assert select_layers(table, "weights") == ["2", "3"]
