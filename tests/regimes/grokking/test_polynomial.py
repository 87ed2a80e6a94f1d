"""Polynomial grokking: descent and kernel against autograd and the general kernel, and the published course."""

from __future__ import annotations

import math

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import kernel_distance
from geomfeat.numerics import WORKING, stream, tolerance
from geomfeat.regimes.grokking import GrokkingRun, PolynomialTask, polynomial_grokking, transitions
from geomfeat.regimes.grokking.polynomial import _descend, _draw, polynomial_kernel
from geomfeat.tangent import ntk
from tests.reference import grokking as reference

SMALL = PolynomialTask(inputs=5, samples=12, width=7, test_samples=9)
ALPHAS = (0.5, 1.0, 2.0, 4.0, 8.0)


@pytest.fixture(scope="module")
def run() -> GrokkingRun:
    """1000 steps at ten times the usual rate: the course of 10 000 steps."""
    return polynomial_grokking(ALPHAS, (0, 1), steps=1000, rate=10.0)


@pytest.mark.parametrize("alpha", [0.3, 5.0])
def test_kernel_is_the_tangent_kernel_of_the_network(alpha: float) -> None:
    weights = torch.randn(4, 6, generator=stream(0, "w"), dtype=WORKING)
    x = torch.randn(9, 4, generator=stream(0, "x"), dtype=WORKING)
    expected = ntk(reference.PolynomialNetwork(weights, alpha, 0.4), x).gram * 6 / alpha**2
    torch.testing.assert_close(polynomial_kernel(weights, x, 0.4), expected, **tolerance())


def test_descent_of_all_alphas_side_by_side_is_descent_of_each() -> None:
    draws = [_draw(SMALL, seed) for seed in (3, 4)]
    x, y, w = (torch.stack([d[i] for d in draws]) for i in (0, 1, 4))
    alphas = torch.tensor([0.5, 3.0], dtype=WORKING)
    path = _descend(x, y, w, alphas, 0.25, 2.0, [0, 1, 40])
    assert path.shape == (3, 2, 5, 2, 7)
    for s in range(2):
        for a, alpha in enumerate((0.5, 3.0)):
            for record, steps in enumerate((0, 1, 40)):
                expected = reference.descend(w[s], x[s], y[s], alpha, 0.25, 2.0, steps)
                torch.testing.assert_close(path[record, s, :, a], expected, rtol=1e-9, atol=1e-11)


def test_series_are_losses_and_kernels_of_the_weights() -> None:
    found = polynomial_grokking((2.0,), (3,), steps=40, rate=2.0, task=SMALL).series[3, 2.0]
    x, y, z, target, w = _draw(SMALL, 3)
    end = reference.descend(w, x, y, 2.0, SMALL.eps, 2.0, 40)
    new, old = (reference.PolynomialNetwork(v, 2.0, SMALL.eps) for v in (end, w))
    for loss, inputs, wanted in ((found.train_loss, x, y), (found.test_loss, z, target)):
        away = (new(inputs) - old(inputs))[:, 0].detach() - wanted
        assert loss is not None
        assert loss[0] == 1.0
        assert loss[-1] == pytest.approx(float(away.square().mean() / wanted.square().mean()), rel=1e-9)
    assert found.kernel.distance[-1] == pytest.approx(kernel_distance(ntk(new, x), ntk(old, x)).value, rel=1e-9)


def test_draws_are_those_of_the_paper() -> None:
    size = PolynomialTask(samples=4000, test_samples=2000)
    x, y, z, target, w = _draw(size, 0)
    assert (x.square().sum(1).mean() - 1).abs() < 0.02
    assert (w.square().mean() - 1).abs() < 0.1
    # beta . x ~ N(0, 1), so E y = 1/2 and E y^2 = 3/4.
    assert abs(float(torch.cat([y, target]).mean()) - 0.5) < 4 * (0.5 / 6000) ** 0.5
    assert z.shape == (2000, 30)


def test_the_gap_grows_with_alpha(run: GrokkingRun) -> None:
    for seed in run.seeds:
        found = [transitions(run.series[seed, alpha]) for alpha in ALPHAS]
        gaps = [r.test_time - r.fit_time for r in found]
        reached = [gap for gap in gaps if math.isfinite(gap)]
        assert len(reached) >= 3
        assert gaps[: len(reached)] == sorted(set(reached)), "once not reached, never reached at larger alpha"
        assert reached[0] > 10
        assert reached[2] > 2.5 * reached[0]


def test_the_kernel_moves_as_one_over_alpha_at_the_lazy_end(run: GrokkingRun) -> None:
    """The weights move by ~ 1 / alpha, the turn with them, and the distance by the square."""
    for seed in run.seeds:
        ends = {alpha: run.series[seed, alpha].kernel for alpha in ALPHAS}
        assert ends[4.0].turn[-1] / ends[8.0].turn[-1] == pytest.approx(2, rel=0.03)
        assert ends[4.0].distance[-1] / ends[8.0].distance[-1] == pytest.approx(4, rel=0.05)
        assert 0.08 < ends[0.5].distance[-1] < 0.25  # .162 in one published draw
        assert ends[8.0].distance[-1] < 0.0015  # .001


def test_without_the_square_nothing_is_learned_beyond_the_samples() -> None:
    """eps = 0 is a linear model: a constant kernel, and a test loss that cannot fall below that of a linear fit."""
    size = PolynomialTask(inputs=5, samples=40, width=8, eps=0.0)
    found = polynomial_grokking((1.0,), steps=200, rate=2.0, task=size).series[0, 1.0]
    assert max(found.kernel.turn) < 1e-7
    assert found.test_loss is not None
    assert min(found.test_loss) > 0.5


def test_a_rate_that_is_too_high_diverges_and_is_flagged() -> None:
    found = polynomial_grokking((1.0,), steps=200, rate=500.0, task=SMALL).series[0, 1.0]
    assert not math.isfinite(found.train_loss[-1])
    assert "not finite from step" in transitions(found).flags[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alphas": ()}, "alphas"),
        ({"alphas": (1.0, -1.0)}, "positive"),
        ({"seeds": ()}, "seeds"),
        ({"steps": 0}, "steps=0"),
        ({"rate": 0.0}, "rate=0.0"),
    ],
)
def test_bad_input_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        polynomial_grokking(**settings)


def test_sizes_are_checked() -> None:
    with pytest.raises(BadInput, match="samples=3"):
        PolynomialTask(samples=3)
