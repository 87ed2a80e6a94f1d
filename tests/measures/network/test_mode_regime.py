"""Regimes of modes in trained networks: which layers pair up, and linear networks on both sides of the threshold."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from geomfeat.measures.network._adjacent_layers import adjacent_linear_layers
from geomfeat.measures.network.mode_regime import mode_regime
from geomfeat.models.linear import linear
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from tests.measures.network.pairs import pair_of

X = torch.randn(4, 6, generator=stream(0, "probes"))


def read(trained: nn.Module) -> dict:
    return mode_regime(pair_of(trained, trained, X, layers=()))


def trained_linear(hidden: tuple[int, ...], scale: float) -> nn.Module:
    """Trained on white inputs towards a map with singular values 2, 1, .5 by plain descent."""
    model = linear(6, hidden, 3, init_scale=scale, seed=0).double()
    target = torch.zeros(3, 6, dtype=torch.float64)
    target[:, :3] = torch.diag(torch.tensor([2.0, 1.0, 0.5]))
    # Plain descent keeps the balance of the layers; the rate is one that the larger layer stands.
    rate = 0.1 / max(2.0, scale**2 * 20)
    eye = torch.eye(6, dtype=torch.float64)
    for _ in range(1500):
        loss = (model(eye) - target.mT).square().sum() / 2
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= rate * g
    assert float(loss.detach()) < 1e-2
    return model


def test_small_weights_are_read_as_rich_and_large_ones_as_lazy() -> None:
    rich, lazy = (read(trained_linear((300,), scale)) for scale in (0.05, 4.0))
    assert rich["fc1"]["rich"].value > 0.9
    assert lazy["fc1"]["lazy"].value > 0.9
    assert rich["fc1"]["strongest"].value > 10
    assert lazy["fc1"]["strongest"].value < 0.1


def test_every_pair_of_a_deep_linear_network_is_read() -> None:
    rows = read(trained_linear((20, 20), 0.2))
    assert set(rows) == {"", "fc1", "fc2"}
    assert rows["fc1"]["strongest"].note == "with fc2"
    assert rows["fc2"]["strongest"].note == "with head"
    for row in rows.values():
        assert row["rich"].value > 0.9
    product = rows["fc1"]["strongest"].value * rows["fc2"]["strongest"].value
    assert rows[""]["strongest"].value == pytest.approx(product**0.5)


def test_an_activation_between_layers_is_reported() -> None:
    model = mlp(6, (8,), 3)
    rows = read(model)
    assert "through ReLU" in rows["fc1"]["rich"].note


def test_layers_that_do_not_meet_are_no_pair() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(), nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    assert list(adjacent_linear_layers(model)) == ["0"]
    assert not read(nn.Linear(6, 2))[""]["rich"].ok
    assert "follow one another" in read(nn.Linear(6, 2))[""]["rich"].note


def test_a_network_of_zeros_has_no_modes() -> None:
    model = copy.deepcopy(mlp(6, (8,), 3))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    row = read(model)["fc1"]["strongest"]
    assert not row.ok
    assert "zero" in row.note
