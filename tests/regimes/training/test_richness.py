"""The names of one richness: conversions both ways, read-out conventions, what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.training import Richness, gamma_from, train_at_gamma
from geomfeat.regimes.training.richness import READOUTS

F64 = torch.float64


def test_conversions_from_other_knobs():
    assert gamma_from(alpha=8.0) == pytest.approx(0.125)
    assert gamma_from(gamma0=2.0, width=100) == pytest.approx(20.0)
    assert gamma_from(r=0.0, width=100) == pytest.approx(1.0)
    assert gamma_from(r=0.5, width=100) == pytest.approx(10.0)
    # In mean-field form the same training has its alpha multiplied by sqrt(n), and gamma0 is gamma.
    assert gamma_from(gamma0=2.0, width=100, readout="1/n") == pytest.approx(2.0)
    assert gamma_from(r=0.0, width=100, readout="1/n") == pytest.approx(0.1)
    assert gamma_from(r=0.5, width=100, readout="1/n") == pytest.approx(1.0)


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(2, 10**6), st.floats(0, 0.5), st.sampled_from(READOUTS))
def test_every_name_converts_there_and_back(gamma, width, r, readout):
    knob = Richness(gamma, width, readout)
    assert Richness.from_alpha(knob.alpha, width, readout).gamma == pytest.approx(gamma)
    assert Richness.from_gamma0(knob.gamma0, width, readout).gamma == pytest.approx(gamma)
    assert Richness.from_r(r, width, readout).r == pytest.approx(r, abs=1e-9)
    assert Richness.from_r(0.5, width, readout).gamma0 == pytest.approx(1.0)
    if 0 <= knob.r <= 0.5:
        assert Richness.from_r(knob.r, width, readout).gamma == pytest.approx(gamma)
    # One training, two conventions: gamma0 and r agree, alpha differs by sqrt(n).
    ntk, mean_field = Richness.from_r(r, width), Richness.from_r(r, width, "1/n")
    assert mean_field.alpha == pytest.approx(math.sqrt(width) * ntk.alpha)
    assert mean_field.gamma0 == pytest.approx(ntk.gamma0)


class TwoLayer(nn.Module):
    """a . tanh(W x), read out with a given multiplier; N(0, 1) weights."""

    def __init__(self, multiplier: float) -> None:
        super().__init__()
        g = stream(0, "two layers")
        self.w = nn.Parameter(torch.randn(32, 4, generator=g, dtype=F64))
        self.a = nn.Parameter(torch.randn(2, 32, generator=g, dtype=F64))
        self.multiplier = multiplier

    def forward(self, x):
        return self.multiplier * torch.tanh(x @ self.w.T / 2) @ self.a.T


@pytest.mark.parametrize("r", [0.0, 0.25, 0.5])
def test_two_read_outs_at_one_r_are_one_training_in_n_times_the_time(r):
    g = stream(0, "data")
    x, y = torch.randn(10, 4, generator=g, dtype=F64), torch.randint(2, (10,), generator=g)
    runs = []
    for readout, multiplier, lr in (("1/sqrt(n)", 32**-0.5, 0.05), ("1/n", 1 / 32, 32 * 0.05)):
        knob = Richness.from_r(r, 32, readout)
        runs.append(train_at_gamma(TwoLayer(multiplier), x, y, gamma=knob, lr=lr, max_steps=60))
    assert runs[0].train_loss < 0.9
    assert_close(runs[0].model.state_dict(), runs[1].model.state_dict(), **tolerance(F64, 100))


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({}, "none"),
        ({"alpha": 1, "r": 0.5}, "exactly one"),
        ({"alpha": -1}, "alpha=-1"),
        ({"r": 0.5}, "width="),
        ({"gamma0": 0, "width": 3}, "gamma0=0"),
        ({"r": float("nan"), "width": 3}, "r=nan"),
        ({"r": -0.5, "width": 100}, r"outside \[0, 1/2\].*gamma = 100\^-0.5 = 0.1, .*lazier"),
        ({"r": 1.0, "width": 100}, r"outside \[0, 1/2\].*gamma = 100\^1 = 100, .*without bound"),
        ({"r": 1.0, "width": 100, "readout": "1/n"}, "= 10,"),
        ({"r": 0.1, "width": 0}, "width="),
        ({"alpha": 1.0, "readout": "mup"}, "readout='mup'"),
    ],
)
def test_conversions_refuse_what_is_not_one_knob(given_, words):
    with pytest.raises(BadInput, match=words):
        gamma_from(**given_)


def test_names_that_need_a_width_say_so():
    knob = Richness(2.0)
    assert knob.alpha == 0.5
    assert "read-out" in str(knob)
    for name in ("gamma0", "r"):
        with pytest.raises(BadInput, match=f"{name} needs the network's width"):
            getattr(knob, name)
    with pytest.raises(BadInput, match="width=1"):
        Richness(2.0, 1).r  # noqa: B018
    with pytest.raises(BadInput, match="gamma=0"):
        Richness(0.0)
    # Lazier than NTK and richer than muP have numbers too; they only cannot be asked for by r.
    assert Richness(0.1, 100).r == pytest.approx(-0.5)
    assert Richness(100.0, 100).r == pytest.approx(1.0)
