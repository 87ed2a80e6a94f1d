"""The VGG stack: what it computes, its sizes by stage, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.models.vgg import vgg
from geomfeat.numerics import stream, tolerance

X = torch.randn(3, 3, 16, 16, generator=stream(0, "vgg"))


def test_it_computes_what_its_layers_say() -> None:
    model = vgg((3, 16, 16), (4, 6), 5, convs=(1, 2), seed=0)
    weights = dict(model.named_parameters())

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1).clamp_min(0)

    h = F.max_pool2d(conv(X, "conv1_1"), 2)
    h = F.max_pool2d(conv(conv(h, "conv2_1"), "conv2_2"), 2)
    assert h.shape == (3, 6, 4, 4)
    want = h.reshape(3, -1) @ weights["head.weight"].T + weights["head.bias"]
    assert_close(model(X), want, **tolerance(torch.float32, 10))


def test_the_full_size_is_that_of_the_published_table() -> None:
    full = vgg((3, 32, 32), (64, 128, 256, 512, 512), convs=(1, 1, 2, 2, 2))
    convolutions = [p for name, p in full.named_parameters() if p.ndim == 4]
    # Simonyan and Zisserman 2015, table 2, configuration A has 9.2 million parameters in its eight convolutions.
    assert len(convolutions) == 8
    assert sum(p.numel() for p in convolutions) == 9_217_728
    assert full.get_submodule("head").weight.shape == (10, 512)


@pytest.mark.parametrize("parameterization", ["standard", "ntk"])
def test_signals_keep_their_size_with_he_weights(parameterization: str) -> None:
    # Torch's weights have variance 1 / (3 fan_in): sqrt(6) times them is He's 2 / fan_in, as gain 2 of "ntk" is.
    scale = 6**0.5 if parameterization == "standard" else 1.0
    options = {"convs": 4, "bias": False, "parameterization": parameterization, "init_scale": scale}
    x = torch.randn(4, 3, 16, 16, generator=stream(1, "vgg"))
    sizes = []
    for seed in range(12):  # one network of this width is off by about 50 %, their mean by 14 %
        model = vgg((3, 16, 16), (64,), seed=seed, **options)
        with torch.no_grad():
            first, last = model[0](x), model[:7](x)  # conv1_1 and conv1_4
        inside = slice(6, 10)  # where padding does not reach
        sizes.append([float(h[:, :, inside, inside].square().mean()) for h in (first, last)])
    start, end = torch.tensor(sizes).mean(0).tolist()
    assert end / start == pytest.approx(1, abs=0.5)


def test_norms_come_before_activations() -> None:
    names = list(dict(vgg(norm="layer", channels=(4,)).named_children()))
    assert names == ["conv1_1", "norm1_1", "act1_1", "pool1", "flatten", "head"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "bacth"}, "no norm 'bacth'; near: batch"),
        ({"image": (8, 8)}, "image="),
        ({"channels": ()}, "channels="),
        ({"channels": (4, 0)}, "channels="),
        ({"convs": (1, 2)}, "each of 3 stages"),
        ({"convs": 0}, "convs=0"),
        ({"channels": (4, 4, 4, 4)}, "cannot be halved by each of 4 stages.*at least 16 pixels"),
    ],
)
def test_bad_sizes_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        vgg(**options)
