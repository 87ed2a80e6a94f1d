"""Width scaling where theory's powers show: slopes at every r, both ends of the second-order term, verdicts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomfeat.models.cnn import cnn
from geomfeat.models.mlp import mlp
from geomfeat.regimes.width import WidthOptions, width_scaling
from geomfeat.regimes.width.parallel_training import family, learning_rates
from geomfeat.regimes.width.result import richness_of
from tests.regimes.width.test_scaling import ntk_mlp, task


@pytest.mark.parametrize("r", [0.0, 0.25, 0.5])
def test_known_slopes(r: float) -> None:
    """Widths 48 to 384, 20 steps; with 8 seeds the intervals are about ± .03."""
    found = width_scaling(ntk_mlp, *task(), (48, 96, 192, 384), r=r, seeds=8, options=WidthOptions(lr=1.0))
    for layer in ("fc1", "fc2"):
        assert abs(found.exponent("feature_change", layer).exponent - r) < 0.05
    assert abs(found.exponent("spectral_update", "fc2").exponent - (r - 0.5)) < 0.05
    assert abs(found.exponent("output_change").exponent) < 0.05
    assert [c.name for c in found.criteria if c.verdict == "violated"] == []
    where = richness_of(found)
    assert where.low <= r <= where.high
    assert where.high - where.low < 0.3
    assert where.violations == ()


def test_initial_outputs_fall_as_gamma_grows_with_twenty_seeds() -> None:
    x, y = task()
    for r in (0.0, 0.5):
        found = width_scaling(ntk_mlp, x, y, (32, 64, 128), r=r, seeds=24, steps=1, options=WidthOptions(lr=0.1))
        law = found.exponent("initial_output")
        assert law.low <= -r <= law.high
        assert law.high - law.low < 0.6


def test_second_order_term_goes_from_1_over_width_to_order_one() -> None:
    x, y = task()
    lazy, rich = (width_scaling(ntk_mlp, x, y, (64, 128, 256, 512), r=r, seeds=3) for r in (0.0, 0.5))
    assert abs(lazy.exponent("second_order").exponent - -1) < 0.15
    assert abs(rich.exponent("second_order").exponent - 0) < 0.15


def test_convolutions_scale_alike() -> None:
    x, y = task(16, 36)
    images = x.reshape(16, 1, 6, 6)

    def make(width: int, seed: int) -> nn.Module:
        return cnn((1, 6, 6), (width, width), 1, activation="tanh", bias=False, parameterization="ntk", seed=seed)

    for r in (0.0, 0.5):
        found = width_scaling(make, images, y, (8, 16, 32, 64), r=r, seeds=4)
        for layer in ("conv1", "conv2"):
            assert abs(found.exponent("feature_change", layer).exponent - r) < 0.1
        assert [c.name for c in found.criteria if c.verdict == "violated"] == []


def test_the_standard_parameterization_leaves_its_first_layer_behind() -> None:
    """One learning rate for all layers: the first layer's features fall by 1 / width beside the second's."""

    def standard(width: int, seed: int) -> nn.Module:
        return mlp(8, (width, width), 1, activation="tanh", bias=False, seed=seed)

    found = width_scaling(standard, *task(), (64, 128, 256), seeds=6)
    first, second = (found.exponent("feature_change", layer).exponent for layer in ("fc1", "fc2"))
    assert abs(first - second - -1) < 0.15
    broken = {(c.name, c.layer) for c in found.criteria if c.verdict == "violated"}
    assert ("useful update", "fc2") in broken
    where = richness_of(found)
    assert any("useful update at fc2" in said for said in where.violations)
    assert any("one richness for all layers at fc1" in said for said in where.violations)
    assert "violates useful update at fc2" in str(where)


@pytest.mark.parametrize(("parameterization", "power"), [("ntk", 0.0), ("standard", -1.0)])
def test_default_rates_follow_the_tangent_kernel(parameterization: str, power: float) -> None:
    x, y = task()
    nets = [
        family([mlp(8, (n, n), 1, activation="tanh", bias=False, parameterization=parameterization, seed=s)
                for s in range(4)]) for n in (64, 256)
    ]  # fmt: skip
    small, large = (t.log().mean() for t in learning_rates(nets, x, y, gammas=(1.0, 1.0)))
    assert abs(float(large - small) / torch.tensor(4.0).log() - power) < 0.15
