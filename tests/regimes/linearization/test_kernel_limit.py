"""The lazy limit: closed forms, kernel regression, stepped flow and descent, and agreement with trained networks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.models import build
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.linearization import lazy_agreement, lazy_limit, linearize
from geomfeat.regimes.training import Richness, TrainOptions, train_at_gamma
from geomfeat.regimes.training.objective import centred_one_hot
from geomfeat.tangent import kernel_regression, ntk
from tests.reference.lazy import linearised_descent
from tests.reference.linearised import flow_of_outputs, full_jacobian

F64 = torch.float64
G = stream(0, "lazy limit test")
X = torch.randn(8, 5, generator=G, dtype=F64)
X_TEST = torch.randn(4, 5, generator=G, dtype=F64)
Y = torch.randn(8, 2, generator=G, dtype=F64)


def small(activation: str = "tanh") -> nn.Module:
    return mlp(5, (24,), 2, activation=activation, seed=3).double()


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_end_of_training_is_kernel_regression(ridge):
    network = small()
    limit = lazy_limit(network, X, Y, X_TEST, ridge=ridge)
    before, before_test = network(X).detach(), network(X_TEST).detach()
    found = kernel_regression(
        ntk(network, X, outputs="full"), Y - before, ntk(network, X_TEST, X, outputs="full"), ridge=ridge
    )
    assert found.test is not None
    assert limit.test is not None
    assert_close(limit.train, before + found.train.values, **tolerance(F64, 10))
    assert_close(limit.test, before_test + found.test.values, **tolerance(F64, 10))
    assert (limit.rank, limit.size, limit.time) == (16, 16, math.inf)
    if ridge == 0:
        assert_close(limit.train, Y, **tolerance(F64, 10))
        assert limit.left < 1e-20
    else:
        want = (found.train.values - (Y - before)).square().sum() / (Y - before).square().sum()
        assert limit.left == pytest.approx(float(want), rel=1e-9)


def test_centred_leaves_the_start_out():
    network = small()
    limit = lazy_limit(network, X, Y, X_TEST, centered=True)
    j, j_test = full_jacobian(network, X), full_jacobian(network, X_TEST)
    want = (j_test @ j.mT @ torch.linalg.solve(j @ j.mT, Y.flatten())).view(4, 2)
    assert limit.test is not None
    assert_close(limit.test, want, **tolerance(F64, 100))


def test_finite_times_are_those_of_stepped_flow():
    network = small()
    j = full_jacobian(network, X)
    b = (Y - network(X).detach()).flatten()
    for share in (0.3, 3.0):
        time = share * float(b.square().sum() / (2 * torch.linalg.eigvalsh(j @ j.mT)[-1]))
        left = flow_of_outputs(j @ j.mT, b, time, 2000)
        limit = lazy_limit(network, X, Y, time=time)
        assert_close((Y - limit.train).flatten(), left, rtol=1e-5, atol=1e-5)
        assert limit.left == pytest.approx(float(left.square().sum() / b.square().sum()), rel=1e-5)


def test_steps_are_those_of_gradient_descent():
    network = small()
    y = centred_one_hot(torch.tensor([0, 1] * 4), 2, F64)
    lr = 0.7 * lazy_limit(network, X, y, centered=True).largest_lr
    want = linearised_descent(network, X, y, lr, 30)
    found = lazy_limit(network, X, torch.tensor([0, 1] * 4), time=30 * lr, step=lr, centered=True)
    assert_close(found.train, want, **tolerance(F64))
    short = lazy_limit(network, X, y, time=30 * lr, step=lr / 1000, centered=True).train
    flow = lazy_limit(network, X, y, time=30 * lr, centered=True).train
    assert float((short - flow).norm()) < 1e-2 * float((found.train - flow).norm())


@pytest.mark.parametrize("share_of_largest", [0.95, 1.05])
def test_the_largest_lr_parts_descent_that_converges_from_descent_that_does_not(share_of_largest):
    network = small()
    lr = share_of_largest * lazy_limit(network, X, Y, centered=True).largest_lr
    run = train_at_gamma(
        linearize(network), X, Y, gamma=1.0, lr=lr, max_steps=150, options=TrainOptions(momentum=0.0, back_off=False)
    )
    assert (run.train_loss < 1) == (share_of_largest < 1)


@pytest.mark.parametrize("step", [0.0, 0.05])
def test_a_target_loss_is_met(step):
    network = small()
    at = lazy_limit(network, X, Y, target_loss=0.02, step=step)
    assert at.left <= 0.02 * (1 + 1e-9)
    again = lazy_limit(network, X, Y, time=at.time, step=step)
    assert_close(again.train, at.train)
    earlier = lazy_limit(network, X, Y, time=0.99 * at.time if step == 0 else at.time - step, step=step)
    assert earlier.left > 0.02
    if step == 0:
        assert at.left == pytest.approx(0.02, rel=1e-9)


def test_targets_that_a_singular_kernel_cannot_reach_are_reported():
    network = nn.Linear(5, 1, bias=False).double()  # rank 5
    y = Y[:, :1]
    limit = lazy_limit(network, X, y, centered=True)
    solution = torch.linalg.lstsq(X, y).solution
    assert (limit.rank, limit.size) == (5, 8)
    assert_close(limit.train, X @ solution, **tolerance(F64))
    share = float((y - X @ solution).square().sum() / y.square().sum())
    assert limit.unreachable == pytest.approx(share, rel=1e-9)
    assert limit.left == pytest.approx(share, rel=1e-9)
    with pytest.raises(BadInput, match="never reached"):
        lazy_limit(network, X, y, centered=True, target_loss=0.5 * share)


def test_readout_picks_the_outputs():
    network = small()
    limit = lazy_limit(network, X, Y[:, :1], readout=lambda out, _: out[:, :1])
    assert_close(limit.train, Y[:, :1], **tolerance(F64, 10))


def test_training_is_lazy_iff_it_is_that_of_the_linearised_network():
    network, y = small(), torch.tensor([0, 1] * 4)
    lr = 0.5 * lazy_limit(network, X, y, centered=True).largest_lr
    lazy = lazy_agreement(network, X, y, gamma=1e-4, lr=lr, steps=200, test_inputs=X_TEST)
    assert lazy.is_lazy
    assert lazy.network_linearised < 1e-3
    assert lazy.network_kernel < 1e-3
    assert lazy.linearised_kernel < 1e-8
    assert lazy.gap < 1e-3
    rich = lazy_agreement(network, X, y, gamma=1.0, lr=lr, steps=200, test_inputs=X_TEST)
    assert not rich.is_lazy
    assert rich.network_linearised > 0.03
    assert rich.linearised_kernel < 1e-8
    assert rich.gap > 0.03


def test_gamma_may_be_a_richness():
    found = lazy_agreement(small(), X, Y, gamma=Richness.from_alpha(1e4), lr=0.01, steps=3)
    assert found == lazy_agreement(small(), X, Y, gamma=1e-4, lr=0.01, steps=3)


def test_the_difference_is_of_first_order_in_gamma():
    network, y = small(), torch.tensor([0, 1] * 4)
    lr = 0.5 * lazy_limit(network, X, y, centered=True).largest_lr
    off = [lazy_agreement(network, X, y, gamma=g, lr=lr, steps=100) for g in (1e-4, 1e-3, 1e-2)]
    for name in ("network_linearised", "network_kernel", "gap"):
        values = [getattr(a, name) for a in off]
        assert [b / a for a, b in itertools.pairwise(values)] == pytest.approx([10, 10], rel=0.1), name


@pytest.mark.parametrize("name", ["cnn", "transformer", "gru_loop"])
def test_other_networks_are_lazy_at_small_gamma_too(name):
    options = {"cnn": {"channels": (4, 6)}, "transformer": {"width": 8, "depth": 1}, "gru_loop": {"hidden": 8}}
    network = build(name, outputs=2, seed=0, **options[name]).double()
    x = torch.randn(5, 1, 8, 8, generator=stream(1, name), dtype=F64)
    y = torch.tensor([0, 1, 1, 0, 1])
    lr = 0.5 * lazy_limit(network, x, y, centered=True).largest_lr
    assert lazy_agreement(network, x, y, gamma=1e-5, lr=lr, steps=30).is_lazy
    assert not lazy_agreement(network, x, y, gamma=1.0, lr=lr, steps=30).is_lazy


def shut() -> nn.Module:
    network = nn.Sequential(nn.Linear(5, 1), nn.ReLU()).double()
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.fill_(-1.0)
    return network


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: lazy_limit(small(), X, Y[:7]), "8 samples"),
        (lambda: lazy_limit(small(), X, Y[:, :1]), "1 values per sample"),
        (lambda: lazy_limit(small(), X, Y * math.nan), "NaN"),
        (lambda: lazy_limit(small(), X, small()(X).detach()), "nothing can be learned"),
        (lambda: lazy_limit(small(), X, 0 * Y, centered=True), "nothing can be learned"),
        (lambda: lazy_limit(shut(), X, Y[:, :1]), "do not depend on the parameters"),
        (lambda: lazy_limit(small(), X, Y, ridge=-1.0), "ridge=-1.0 must be at least 0"),
        (lambda: lazy_limit(small(), X, Y, time=-1.0), "time=-1.0 must be"),
        (lambda: lazy_limit(small(), X, Y, time=1.0, step=1e9), "step=1e"),
        (lambda: lazy_limit(small(), X, Y, target_loss=1.5), "target_loss=1.5 must be"),
        (lambda: lazy_limit(small(), X, Y, target_loss=0.5, time=1.0), "give one of them"),
        (lambda: lazy_limit(small(), X, Y, target_loss=1e-3, ridge=100.0), "never reached"),
        (lambda: lazy_agreement(small(), X, Y, gamma=0.0, lr=0.01, steps=3), "gamma"),
        (lambda: lazy_agreement(small(), X, Y, gamma=1.0, lr=0.01, steps=0), "steps=0 at least 1"),
        (lambda: lazy_agreement(small(), X, Y, gamma=1.0, lr=-0.01, steps=3), "lr=-0.01 must be positive"),
        (lambda: lazy_limit(small(), X * math.nan, Y), "outputs on the inputs holds"),
        (lambda: lazy_limit(small(), X, Y, X * math.nan), "outputs on the test inputs"),
    ],
)
def test_bad_input_is_reported(make, said):
    with pytest.raises(BadInput, match=said):
        make()
