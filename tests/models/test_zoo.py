"""The reference architectures: shapes, seeds, parameterizations, masks, errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.models import build
from geomfeat.models.parameterization import ScaledConv2d, ScaledLinear
from geomfeat.models.zoo import ARCHITECTURES
from geomfeat.numerics import stream, tolerance

X = torch.randn(3, 1, 8, 8, generator=stream(0, "architectures"))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_defaults_take_digits_and_train_every_parameter(name, device):
    model = build(name, seed=0).to(device)
    out = model(X.to(device))
    assert out.shape == (3, 10)
    out.square().sum().backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_seed_fixes_the_weights_and_spares_the_global_generator(name):
    state = torch.get_rng_state()
    a, b, c = build(name, seed=4), build(name, seed=4), build(name, seed=5)
    assert torch.equal(state, torch.get_rng_state())
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    assert any(not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_without_a_seed_every_call_is_fresh(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        a, b = build(name), build(name)
    assert any(not torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 3), st.floats(0.1, 4), st.sampled_from(["standard", "ntk"]))
def test_a_network_without_biases_is_homogeneous_in_its_scale(depth, scale, parameterization):
    options = {"hidden": (7,) * depth, "bias": False, "parameterization": parameterization, "seed": 0}
    plain, grown = build("mlp", **options), build("mlp", init_scale=scale, **options)
    assert_close(grown(X), scale ** (depth + 1) * plain(X), **tolerance(torch.float32, 10))


def test_init_scale_spares_normalisation():
    plain, grown = build("residual", seed=0), build("residual", init_scale=3.0, seed=0)
    assert_close(grown.head.weight, 3 * plain.head.weight)
    assert_close(grown.stem_norm.weight, plain.stem_norm.weight)


@pytest.mark.parametrize("name", ["mlp", "linear", "cnn"])
def test_ntk_weights_are_standard_normal_and_the_multiplier_is_in_the_forward_pass(name):
    model = build(name, parameterization="ntk", seed=0)
    layers = [m for m in model.modules() if isinstance(m, ScaledLinear | ScaledConv2d)]
    assert not any(isinstance(m, nn.Linear | nn.Conv2d) for m in model.modules())
    for layer in layers:
        weight = layer.weight.detach()
        n = weight.numel()
        assert abs(float(weight.mean())) < 4 / math.sqrt(n)
        assert float(weight.square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / n))
    head = layers[-1]
    h = torch.randn(2, head.weight.shape[1], generator=stream(0, "h"))
    assert_close(head(h), h @ head.weight.T / math.sqrt(h.shape[1]) + (0 if head.bias is None else head.bias))


def test_ntk_convolution_is_a_scaled_convolution():
    layer = ScaledConv2d(2, 3, 3, stride=2, gain=2.0)
    x = torch.randn(1, 2, 6, 6, generator=stream(0, "conv"))
    want = nn.functional.conv2d(x, layer.weight, None, 2, 1) * math.sqrt(2 / 18)
    assert_close(layer(x), want, **tolerance(torch.float32))


def test_ntk_outputs_do_not_depend_on_width():
    def size(width):
        models = [build("mlp", hidden=(width, width), parameterization="ntk", seed=s) for s in range(20)]
        return float(torch.stack([m(X).detach().square().mean() for m in models]).mean())

    assert size(512) == pytest.approx(size(64), rel=0.35)


def test_padding_changes_nothing():
    model = build("transformer", vocabulary=11, seed=0)
    ids = torch.tensor([[3, 5, 7]])
    padded = torch.tensor([[3, 5, 7, 1, 9]])
    mask = torch.tensor([[False, False, False, True, True]])
    assert_close(model(padded, padding_mask=mask), model(ids), **tolerance(torch.float32, 10))
    assert not torch.allclose(model(padded), model(ids))


def test_rows_of_an_image_are_the_steps():
    model = build("lstm", seed=0)
    assert_close(model(X), model(X[:, 0]))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mpl", {}, "near: mlp"),
        ("mlp", {"widht": 3}, "no option 'widht'"),
        ("mlp", {"activation": "rleu"}, "rleu"),
        ("mlp", {"parameterization": "mup"}, "mup"),
        ("mlp", {"hidden": (0,)}, "at least 1"),
        ("mlp", {"init_scale": 0.0}, "init_scale=0.0"),
        ("cnn", {"kernel": 2}, "kernel=2"),
        ("cnn", {"image": (8, 8)}, "image"),
        ("residual", {"norm": "bacth"}, "bacth"),
        ("transformer", {"width": 33}, "width=33"),
        ("lstm", {"hidden": 0}, "hidden=0"),
        ("gru_loop", {"hidden": 0}, "hidden=0"),
        ("linear", {"outputs": 0}, "at least 1"),
    ],
)
def test_bad_options_are_named(name, options, words):
    with pytest.raises(BadInput, match=words):
        build(name, **options)


def test_wrong_inputs_are_named():
    with pytest.raises(BadInput, match="at most steps=4"):
        build("transformer", steps=4)(torch.zeros(1, 5, 8))
    with pytest.raises(BadInput, match="sequence model"):
        build("lstm")(torch.zeros(5, 8))
