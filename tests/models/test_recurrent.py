"""The rate network: its steps, the rank and gain of its initial weights, time first, masks, and where it is located."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import geomfeat as gf
from geomfeat.data.tasks import two_alternative_choice
from geomfeat.errors import BadInput
from geomfeat.models.recurrent import SamplesFirst, rate_rnn
from geomfeat.models.reinitialize import resetting
from geomfeat.numerics import WORKING, stream, tolerance
from geomfeat.regimes.training import train_at_gamma

CLOSE: Any = tolerance()
X = torch.randn(5, 7, 3, generator=stream(0, "rate network"), dtype=WORKING)


def by_hand(net: Any, x: np.ndarray) -> np.ndarray:
    """(steps, outputs) of one sample, from the definition."""
    w, u, b, v = (p.detach().numpy() for p in (net.recurrent, net.input, net.bias, net.readout))
    state, made = np.zeros(len(b)), []
    for now in x:
        new = np.zeros(len(b))
        for i in range(len(b)):
            current = b[i] + sum(w[i, j] * math.tanh(state[j]) for j in range(len(b))) + u[i] @ now
            new[i] = (1 - net.leak) * state[i] + net.leak * current
        state = new
        made.append(net.output_scale * v @ np.tanh(state))
    return np.array(made)


@pytest.mark.parametrize("leak", [0.3, 1.0])
def test_its_outputs_are_those_of_the_definition(leak: float) -> None:
    net = rate_rnn(3, 6, 2, leak=leak, gain=1.3, output_scale=0.7, every_step=True, seed=0).to(WORKING)
    nn.init.normal_(net.bias, generator=stream(0, "bias"))
    wanted = np.stack([by_hand(net, x) for x in X.numpy()])
    np.testing.assert_allclose(net(X).detach().numpy(), wanted, rtol=1e-10, atol=1e-12)
    net.every_step = False
    np.testing.assert_allclose(net(X).detach().numpy(), wanted[:, -1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 4, 16, None])
def test_initial_weights_have_their_rank_and_mean_square(rank: int | None) -> None:
    units, gain = 300, 1.4
    nets = [rate_rnn(3, units, 2, gain=gain, rank=rank, seed=seed) for seed in range(3)]
    weights = torch.stack([net.recurrent.detach().to(WORKING) for net in nets])
    values = torch.linalg.svdvals(weights)
    assert [int((v > 1e-4 * v[0]).sum()) for v in values] == [rank or units] * 3
    # Of a product of r Gaussian pairs the mean square has relative variance about 4 / (units r).
    assert float(weights.square().mean()) == pytest.approx(
        gain**2 / units, rel=4 * (4 / (3 * units * (rank or units))) ** 0.5
    )
    if rank is None:
        assert float(torch.linalg.eigvals(weights[0]).abs().max()) == pytest.approx(gain, rel=0.1)
    for name, variance in (("input", 1 / 3), ("readout", 1 / units)):
        drawn = torch.cat([getattr(net, name).detach().flatten() for net in nets])
        assert float(drawn.square().mean()) == pytest.approx(variance, rel=0.2)


def test_fresh_weights_have_the_same_rank() -> None:
    net = rate_rnn(3, 20, 2, rank=2, seed=0)
    other = resetting(net)()
    assert not torch.equal(other.recurrent, net.recurrent)
    assert int(torch.linalg.matrix_rank(other.recurrent.detach(), rtol=1e-4)) == 2


def test_a_mask_leaves_scored_steps_alone_and_time_first_is_the_same(device: torch.device) -> None:
    mask = torch.rand(5, 7, generator=stream(0, "mask")) < 0.5
    net = rate_rnn(3, 6, 2, every_step=True, seed=0).to(WORKING).to(device)
    x, mask = X.to(device), mask.to(device)
    made = net(x, mask=mask)
    assert torch.equal(made, net(x) * mask[..., None])
    late = rate_rnn(3, 6, 2, every_step=True, batch_first=False, seed=0).to(WORKING).to(device)
    torch.testing.assert_close(late(x.transpose(0, 1), mask.T), made.transpose(0, 1), **CLOSE)
    torch.testing.assert_close(SamplesFirst(late)(x, mask), made, **CLOSE)
    late.every_step = False
    torch.testing.assert_close(SamplesFirst(late)(x), net(x)[:, -1], **CLOSE)


def test_a_location_of_time_first_inputs_is_that_of_samples_first() -> None:
    trials = two_alternative_choice(16, stimulus=4, seed=0)
    found = []
    for batch_first in (True, False):
        start: nn.Module = rate_rnn(3, 12, 1, rank=2, batch_first=batch_first, seed=0).to(WORKING)
        start = start if batch_first else SamplesFirst(start)
        sign = 2.0 * trials.choices.to(WORKING) - 1
        trained = train_at_gamma(start, trials.inputs, sign, gamma=1.0, target_loss=0.3)
        found.append(gf.locate(trained.model, trials.inputs, initial=start, progress=False,
                               options=gf.LocateOptions(n_bootstrap=2)))  # fmt: skip
    one, two = found
    assert [layer.removeprefix("net.") for layer in two.layers["layer"]] == one.layers["layer"].tolist() == ["rates"]
    for name in ("richness", "movement", "kernel_demand", "kernel_change", "linearisation_gap"):
        assert getattr(two, name) == pytest.approx(getattr(one, name), abs=1e-6)


def test_the_rates_of_every_step_are_a_layer() -> None:
    net = rate_rnn(3, 6, 2, seed=0).to(WORKING)
    calls = gf.extract(net, X, options=gf.ExtractOptions(calls="all"), layers="rates", progress=False)
    assert list(calls) == [f"rates@{t}" for t in range(7)]
    assert torch.allclose(calls["rates@6"].x @ net.readout.detach().mT, net(X).detach())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": 0}, "hidden=0"),
        ({"rank": 0}, r"rank=0 of recurrent weights must be in 1\.\.32"),
        ({"rank": 33}, "rank=33"),
        ({"leak": 0.0}, "leak=0.0"),
        ({"gain": -1.0}, "gain=-1.0"),
        ({"output_scale": math.inf}, "output_scale=inf"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        rate_rnn(**options)
