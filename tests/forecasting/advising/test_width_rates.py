"""Rates by layer at another width: the table of muP, for every kind of weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from geomfeat.forecasting.advising.width_rates import width_rates
from geomfeat.models.cnn import cnn
from geomfeat.models.mlp import mlp
from geomfeat.models.recurrent import gru_loop
from geomfeat.models.transformer import transformer


def test_the_table_of_mup_for_an_mlp() -> None:
    """SGD: input m, hidden 1, read-out 1/m; Adam 1, 1/m, 1/m; the read-out's times m, m^1/2 for its multiplier."""
    pair = mlp(8, (16, 16), 3), mlp(8, (64, 64), 3)
    sgd, m = width_rates(*pair, adaptive=False)
    assert m == 4
    assert sgd == {"fc1.weight": 4, "fc1.bias": 4, "fc2.weight": 1, "fc2.bias": 4, "head.weight": 1, "head.bias": 1}
    adam, _ = width_rates(*pair, adaptive=True)
    assert adam == {
        "fc1.weight": 1, "fc1.bias": 1, "fc2.weight": 0.25, "fc2.bias": 1, "head.weight": 0.5, "head.bias": 1,
    }  # fmt: skip


def test_the_ntk_parameterization_has_its_multipliers_in_the_forward_pass() -> None:
    pair = (mlp(8, (n, n), 3, parameterization="ntk") for n in (16, 64))
    sgd, _ = width_rates(*pair, adaptive=False)
    assert {name: round(f, 9) for name, f in sgd.items() if name.endswith("weight")} == {
        "fc1.weight": 4, "fc2.weight": 4, "head.weight": 4,
    }  # fmt: skip


def upsampling(width: int) -> nn.Module:
    return nn.Sequential(nn.ConvTranspose1d(2, width, 3), nn.ConvTranspose1d(width, 3, 3))


@pytest.mark.parametrize(
    ("pair", "name", "factor"),
    [
        ((cnn(channels=(4, 8)), cnn(channels=(8, 16))), "conv2.weight", 0.5),
        ((gru_loop(hidden=8), gru_loop(hidden=16)), "cell.weight_hh", 0.5),
        ((gru_loop(hidden=8), gru_loop(hidden=16)), "cell.weight_ih", 1.0),
        ((transformer(width=8), transformer(width=16)), "position", 1.0),
        ((transformer(width=8), transformer(width=16)), "encoder.layers.0.self_attn.in_proj_weight", 0.5),
        ((transformer(width=8, vocabulary=9), transformer(width=16, vocabulary=9)), "embed.weight", 1.0),
        ((upsampling(4), upsampling(8)), "0.weight", 1.0),
        ((upsampling(4), upsampling(8)), "1.weight", 0.5 * 2**0.5),
    ],
)
def test_adam_rates_go_by_fan_in(pair: Any, name: str, factor: float) -> None:
    rates, _ = width_rates(*pair, adaptive=True)
    assert rates[name] == pytest.approx(factor)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_step_changes_every_layer_alike_at_all_widths(adaptive: bool) -> None:
    """The coordinate check: after a step the features' change per unit does not depend on the width."""
    x, y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.ones(8, 1)
    base, found = mlp(6, (64, 64), 1, activation="tanh", seed=0), []
    for width in (64, 1024):
        net = mlp(6, (width, width), 1, activation="tanh", seed=0)
        rates, m = ({}, 1.0) if width == 64 else width_rates(base, net, adaptive=adaptive)
        before = [net[:k](x).detach() for k in (3, 5)]  # type: ignore[index]
        start = net(x).detach()
        groups = [{"params": [p], "lr": 0.01 * rates.get(n, 1.0)} for n, p in net.named_parameters()]
        optimizer: Any = torch.optim.Adam(groups) if adaptive else torch.optim.SGD(groups)
        for _ in range(3):
            optimizer.zero_grad()
            (m**-0.5 * (net(x) - start) - y).square().mean().backward()
            optimizer.step()
        after = [net[:k](x).detach() for k in (3, 5)]  # type: ignore[index]
        found.append([float((b - a).square().mean().sqrt()) for a, b in zip(before, after, strict=True)])
    for narrow, wide in zip(*found, strict=True):
        assert 0.7 < wide / narrow < 1.4
