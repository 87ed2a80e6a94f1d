"""A network at a chosen richness in a loop of one's own: exactly what train_at_gamma does, for every kind of module."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import geomfeat
from geomfeat.data._load_data import load_data
from geomfeat.errors import BadInput
from geomfeat.models import build
from geomfeat.models.functional import call
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.training import (
    AtRichness,
    Richness,
    TrainOptions,
    at_richness,
    parameter_groups,
    relative_loss,
    train_at_gamma,
)
from tests.option_groups import grouped

F64 = torch.float64
DIGITS = load_data("digits", n=40)
Y = torch.tensor([0, 1, 2, 0, 1, 1, 0, 0, 1, 0, 1, 0])  # no class holds a third: its bias would start at slope 0


def small() -> tuple[nn.Module, torch.Tensor]:
    x = torch.randn(12, 5, generator=stream(0, "wrapping test"), dtype=F64)
    return build("mlp", inputs=5, hidden=(16,), outputs=3, activation="tanh", seed=1).double(), x


def pretrained_kind(name: str) -> nn.Module:
    """A tiny transformer of the transformers package, from its configuration."""
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "gpt2":
            config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=20, n_positions=8, num_labels=3,
                                             pad_token_id=0)  # fmt: skip
            return transformers.GPT2ForSequenceClassification(config)
        config = transformers.BertConfig(num_hidden_layers=1, num_attention_heads=2, hidden_size=16, vocab_size=20,
                                         intermediate_size=32, max_position_embeddings=8, num_labels=3)  # fmt: skip
        return transformers.BertForSequenceClassification(config)


class Tuples(nn.Module):
    """A recurrent layer as torch has it, whose output is (outputs, state)."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 6, batch_first=True)

    def forward(self, x):
        return self.rnn(x)


def zoo(name: str):
    """(network, inputs, classes)."""
    g = stream(0, "zoo", name)
    if name in ("gpt2", "bert"):
        tokens = torch.randint(1, 20, (12, 6), generator=g)
        return pretrained_kind(name), {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, Y
    if name == "tuples":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Tuples(), torch.randn(12, 3, 5, generator=g), torch.arange(12)
    return build(name, **SMALLER.get(name, {}), seed=0), DIGITS.inputs, DIGITS.labels


SMALLER = {"transformer": {"width": 16, "depth": 1}}
ZOO = ("mlp", "cnn", "residual", "transformer", "lstm", "gru_loop", "tuples", "gpt2", "bert")


def loop(model, x, y, gamma, make, steps, **how) -> AtRichness:
    """A training loop as anybody writes it."""
    wrapped = at_richness(model, gamma=gamma, **how)
    optimizer = make(wrapped)
    for _ in range(steps):
        optimizer.zero_grad()
        f = call(wrapped, x)
        relative_loss(f.reshape(len(f), -1), y).backward()
        optimizer.step()
    return wrapped


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("gamma", [1e-4, 0.1, 3.0])
def test_an_own_loop_of_sgd_is_train_at_gamma(gamma, centered):
    model, x = small()
    how = {"centered": centered, "lr": 0.02, "weight_decay": 0.1, "lr_multipliers": {"head": 0.5}}
    plain = {"gamma": gamma, "max_steps": 25, "momentum": 0.0, "back_off": False}
    want = train_at_gamma(model, x, Y, **grouped(train_at_gamma, plain | how))
    wrapped = loop(
        model, x, Y, gamma,
        lambda m: torch.optim.SGD(parameter_groups(m, 0.02, weight_decay=0.1, lr_multipliers={"head": 0.5})), 25,
        centered=centered,
    )  # fmt: skip
    assert wrapped.net is model
    assert_close(model.state_dict(), want.model.state_dict(), **tolerance(F64, 100))


@pytest.mark.parametrize("gamma", [0.1, 3.0])
def test_an_own_loop_of_adam_is_train_at_gamma(gamma):
    model, x = small()
    want = train_at_gamma(
        model, x, Y, gamma=gamma, lr=1e-3, max_steps=10, options=TrainOptions(optimizer="adam", back_off=False)
    )
    same = train_at_gamma(
        model,
        x,
        Y,
        gamma=gamma,
        max_steps=10,
        options=TrainOptions(back_off=False, optimizer=lambda groups: torch.optim.Adam(groups, lr=1e-3, eps=1e-30)),
    )
    loop(model, x, Y, gamma, lambda m: torch.optim.Adam(parameter_groups(m, 1e-3, rule="adam"), eps=1e-30), 10)
    assert_close(model.state_dict(), same.model.state_dict(), **tolerance(F64, 100))
    assert_close(model.state_dict(), want.model.state_dict(), rtol=1e-5, atol=1e-7)


def test_gamma_squared_on_the_loss_is_gamma_squared_on_the_rate():
    """Chizat's form: 1 / alpha^2 before the loss, and a rate that does not know of gamma."""
    (model, x), gamma = small(), 0.05
    other = copy.deepcopy(model)
    loop(model, x, Y, gamma, lambda m: torch.optim.SGD(parameter_groups(m, 0.02)), 20)
    wrapped = at_richness(other, Richness.from_alpha(20.0))
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        (gamma**2 * relative_loss(wrapped(x), Y)).backward()
        optimizer.step()
    assert_close(other.state_dict(), model.state_dict(), **tolerance(F64, 100))


@pytest.mark.parametrize("name", ZOO)
def test_any_module_starts_at_zero_and_trains_by_both_ways(name, device):
    model, x, y = zoo(name)
    model = model.to(device).eval()
    x = {k: v.to(device) for k, v in x.items()} if isinstance(x, dict) else x.to(device)
    y = y.to(device)
    held = copy.deepcopy(x)
    trained = train_at_gamma(model, x, y, gamma=0.3, max_steps=15)
    assert trained.train_loss < 0.97
    wrapped = at_richness(model, gamma=0.3)
    with torch.no_grad():
        assert float(call(wrapped, x).abs().max()) == 0
    assert call(wrapped, x).abs().max() == 0
    loop(model, x, y, 0.3, lambda m: torch.optim.SGD(parameter_groups(m, trained.lr / 2)), 15)
    with torch.no_grad():
        f = call(wrapped, x)
        assert float(relative_loss(f.reshape(len(f), -1), y)) < 0.98
    assert_close(x, held, rtol=0, atol=0)


def moved(model: nn.Module, x, y, gamma: float) -> float:
    trained = train_at_gamma(model, x, y, gamma=gamma, target_loss=0.7, max_steps=3000, options=TrainOptions(dtype=F64))
    assert trained.converged
    pairs = list(zip(trained.model.parameters(), model.parameters(), strict=True))
    return float(sum((a.detach() - b.detach().double()).square().sum() for a, b in pairs)) ** 0.5


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer", "gru_loop", "gpt2", "bert"])
def test_weights_move_by_gamma_at_the_lazy_end_and_more_at_the_rich_one(name):
    model, x, y = zoo(name)
    model = model.eval()
    lazy, less_lazy, rich = (moved(model, x, y, gamma) for gamma in (1e-4, 1e-3, 3.0))
    assert less_lazy / lazy == pytest.approx(10, rel=0.02)
    assert rich > 50 * less_lazy


def test_weights_are_held_once():
    model, x = small()
    wrapped = at_richness(model, gamma=0.5)
    assert [f"net.{n}" for n in model.state_dict()] == list(wrapped.state_dict())
    assert len(list(wrapped.parameters())) == len(list(model.parameters()))
    assert wrapped.start is not None
    assert not any(p.requires_grad for p in wrapped.start.parameters())
    assert all(p.requires_grad for p in model.parameters())
    loop_end = train_at_gamma(model, x, Y, gamma=0.5, max_steps=5).model
    # w0 first, then the weights: the outputs of a run that goes on.
    again = at_richness(copy.deepcopy(model), gamma=0.5)
    again.net.load_state_dict(loop_end.state_dict())
    assert_close(again(x), (loop_end(x) - model(x)) / 0.5, **tolerance(F64, 10))
    assert_close(copy.deepcopy(again)(x), again(x), rtol=0, atol=0)
    assert at_richness(model, gamma=0.5, centered=False).start is None


def test_the_frozen_network_follows_device_precision_and_mode(device):
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    wrapped = at_richness(model, gamma=0.1).to(device).double()
    x = small()[1].to(device)
    assert wrapped.start is not None
    assert next(wrapped.start.parameters()).dtype == F64
    assert next(wrapped.start.parameters()).device.type == device
    assert [m.training for m in wrapped.start] == [False, True, False, False]
    wrapped.eval()
    assert not wrapped.start[1].training
    assert float(wrapped(x).detach().abs().max()) == 0
    wrapped.train()
    model[2].p = 0.0
    assert float(wrapped(x).detach().abs().max()) == 0
    # Running statistics move alike in both, so f stays 0 where no step was taken.
    assert_close(wrapped.start[1].running_mean, model[1].running_mean, rtol=0, atol=0)
    wrapped.eval()
    assert float(wrapped(x).detach().abs().max()) == 0


def test_readout_picks_and_shapes_are_kept():
    model = Tuples().double()
    x = torch.randn(4, 3, 5, generator=stream(0, "readout"), dtype=F64)
    assert at_richness(model, gamma=1.0)(x).shape == (4, 3, 6)
    assert at_richness(model, gamma=1.0, readout=lambda out, x: out[1][0])(x).shape == (4, 6)
    seen = []
    wrapped = at_richness(nn.Linear(5, 2).double(), gamma=1.0, readout=lambda out, x: seen.append(x.shape) or out)
    wrapped(x)
    assert seen == [x.shape] * 2


def test_a_network_that_works_in_place_is_wrapped():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 2)).double()
    x = small()[1]
    held = x.clone()
    wrapped = at_richness(model, gamma=1.0)
    assert float(wrapped(x).detach().abs().max()) == 0
    assert torch.equal(x, held)


def test_few_digits_are_reported(caplog):
    with caplog.at_level(logging.WARNING, "geomfeat"):
        at_richness(nn.Linear(2, 2), gamma=1e-2)
        at_richness(nn.Linear(2, 2).double(), gamma=1e-5)
        assert not caplog.records
        at_richness(nn.Linear(2, 2), gamma=1e-5)
    assert "model.double()" in caplog.text


def test_public_names():
    assert geomfeat.at_richness is at_richness
    assert geomfeat.Richness is Richness


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda m: at_richness(m), "exactly one of richness="),
        (lambda m: at_richness(m, Richness(1.0), gamma=1.0), "exactly one of richness="),
        (lambda m: at_richness(m, gamma=-1.0), "gamma=-1.0"),
        (lambda m: at_richness(m, gamma=0.0), "gamma=0.0"),
        (lambda m: at_richness(m, 0.0), "gamma=0.0"),
        (lambda m: at_richness(nn.Embedding(3, 2), gamma=1.0, readout=lambda o, x: "o")(torch.ones(2).long()), "str"),
        (lambda m: parameter_groups(m, 0.1), "gamma= is needed"),
        (lambda m: parameter_groups(m, 0.1, 1.0, rule="lion"), "rule='lion'"),
        (lambda m: parameter_groups(m, 0.0, 1.0), "lr=0.0"),
        (lambda m: parameter_groups(m, 0.1, -1.0), "gamma=-1.0"),
        (lambda m: parameter_groups(m, 0.1, float("inf")), "gamma=inf"),
        (lambda m: parameter_groups(m, float("inf"), 1.0), "lr=inf"),
        (lambda m: relative_loss(torch.zeros(4), torch.zeros(4)), r"\(n, C\) outputs, got \(4,\)"),
        (lambda m: relative_loss(torch.zeros(1, 2), torch.ones(5, 2)), "5 entries, but there are outputs of 1"),
        (lambda m: relative_loss(torch.zeros(2, 2), torch.full((2, 2), float("nan"))), "targets holds 4 NaN"),
        (lambda m: parameter_groups(m, 0.1, 1.0, weight_decay=-1.0), "weight_decay=-1.0"),
        (lambda m: parameter_groups(m, 0.1, 1.0, lr_multipliers={"*": 0}), "no trainable parameters"),
        (lambda m: relative_loss(torch.ones(2, 3), torch.zeros(2, 3)), "loss at f = 0 is 0"),
        (lambda m: relative_loss(torch.ones(2, 3), [0, 5]), "0..2"),
    ],
)
def test_bad_input_is_named(act, words):
    with pytest.raises(BadInput, match=words):
        act(nn.Linear(2, 2))
