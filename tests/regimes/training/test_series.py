"""The series of a run: kernels along a planted path, and networks whose kernel is known to move or not to."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import kernel_angle, target_alignment
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING, double_centred, stream
from geomfeat.regimes.training import TrainingSeries, scaled_outputs, training_series
from geomfeat.regimes.training.series import KernelPath, kernel_path, log_spaced_steps
from geomfeat.tangent import ntk
from geomfeat.types import Snapshot

X = torch.randn(12, 3, generator=stream(0, "x"), dtype=WORKING)
Y = torch.arange(12) % 2


def turning(angle: float) -> torch.Tensor:
    """A centred kernel that turns from u u' towards v v' (orthogonal as matrices), plus a large constant."""
    first, second = torch.linalg.qr(torch.randn(12, 2, generator=stream(1, "directions"), dtype=WORKING)).Q.T
    u, v = (double_centred(torch.outer(w, w)) for w in (first, second))
    u = u / u.norm()
    v = v - (u * v).sum() * u
    return math.cos(angle) * u + math.sin(angle) * v / v.norm() + 5.0


def test_turn_and_arc_of_a_planted_path() -> None:
    path = kernel_path([turning(a) for a in (0.0, 0.2, 0.9, 0.4)], Y)
    assert path.turn == pytest.approx((0, 0.2, 0.9, 0.4), abs=1e-7)
    assert path.arc == pytest.approx((0, 0.2, 0.7, 0.5), abs=1e-7)
    assert path.distance[2] < 0.01  # the constant hides the turn from the distance that is not centred
    assert path.alignment[0] == pytest.approx(target_alignment(turning(0.0), Y).value)


def test_kernels_without_geometry_are_nan_and_the_path_goes_on() -> None:
    path = kernel_path([turning(0.0), torch.ones(12, 12), turning(0.3), turning(math.nan), turning(0.5)], Y)
    assert [math.isnan(t) for t in path.turn] == [False, True, False, True, False]
    assert path.turn[4] == pytest.approx(0.5, abs=1e-7)
    assert [math.isnan(a) for a in path.arc] == [False, True, True, True, True]


def test_a_model_linear_in_its_parameters_is_lazy() -> None:
    nets = [nn.Linear(3, 2), nn.Linear(3, 2)]
    found = training_series([Snapshot(n, i) for i, n in enumerate(nets)], X.float(), Y)
    assert found.kernel.turn == pytest.approx((0, 0), abs=1e-7)


def test_numbers_are_those_of_the_snapshots() -> None:
    nets = [mlp(3, (8,), 2, seed=s) for s in (0, 1)]
    x, z = X.float(), torch.randn(7, 3, generator=stream(0, "z"))
    labels = torch.arange(7) % 2
    snapshots = [Snapshot(nets[0], "init"), Snapshot(nets[1], 50)]
    found = training_series(snapshots, x, Y, test=(z, labels), loss="cross-entropy", probes=9)
    assert found.steps == (0, 50)
    for i, net in enumerate(nets):
        f = copy.deepcopy(net).double()(z.double()).detach()
        assert found.test_loss[i] == pytest.approx(float(nn.functional.cross_entropy(f, labels)))
        assert found.test_accuracy[i] == float((f.argmax(1) == labels).double().mean())
    rows = torch.arange(9) * 12 // 9
    old, new = (double_centred(ntk(net, x[rows]).gram) for net in nets)
    assert found.kernel.turn[1] == pytest.approx(kernel_angle(new, old).value, rel=1e-9)


def test_gamma_takes_the_first_outputs_away_and_divides() -> None:
    nets = [mlp(3, (8,), 1, seed=s).double() for s in (0, 1)]
    y = X[:, :1]
    found = training_series([Snapshot(n, i) for i, n in enumerate(nets)], X, y, gamma=0.1)
    f = scaled_outputs(nets[1], nets[0], X, gamma=0.1)
    assert found.train_loss == pytest.approx((float(y.square().mean()), float((f - y).square().mean())))
    assert found.train_accuracy is None


def test_a_diverged_run_is_nan_from_there_on() -> None:
    nets = [mlp(3, (8,), 2, seed=0) for _ in range(3)]
    with torch.no_grad():
        next(nets[1].parameters()).fill_(math.inf)
    found = training_series([Snapshot(n, i) for i, n in enumerate(nets)], X.float(), Y)
    assert [math.isnan(v) for v in found.kernel.turn] == [False, True, True]
    assert math.isnan(found.train_loss[1])
    with pytest.raises(BadInput, match="not finite"):
        training_series([Snapshot(n, i) for i, n in enumerate(nets[1:])], X.float(), Y)


def test_the_given_networks_are_left_as_they_were() -> None:
    net = mlp(3, (8,), 2, seed=0)
    before = copy.deepcopy(net.state_dict())
    training_series([Snapshot(net, 0), Snapshot(net, 1)], X.float(), Y)
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def two() -> list[Snapshot]:
    return [Snapshot(mlp(3, (8,), 2, seed=i), i) for i in (0, 1)]


def test_snapshots_may_come_from_a_generator() -> None:
    found, wanted = (training_series(given, X.float(), Y) for given in ((s for s in two()), two()))
    assert found.train_loss == wanted.train_loss


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training_series([Snapshot(nn.Linear(3, 2), "trained")] * 2, X.float(), Y), "trained"),
        (lambda: training_series([Snapshot(nn.Linear(3, 2), 3)] * 2, X.float(), Y), "increasing"),
        (lambda: training_series([Snapshot(nn.Linear(3, 2), i) for i in (0, 1)], X.float(), Y[:5]), "5 entries"),
        (lambda: TrainingSeries((0, 1), (1.0,), KernelPath((0, 0), (0, 0), (0, 0), (0, 0))), "train_loss has 1"),
        (lambda: log_spaced_steps(0), "last=0"),
        (lambda: training_series([], X.float(), Y), "two or more geomfeat.Snapshot"),
        (lambda: training_series(two(), X.float(), Y, gamma=0.0), "gamma=0.0"),
        (lambda: training_series(two(), X.float(), Y, probes=2), "probes=2 of 12"),
        (lambda: training_series(two(), X[:3].float(), Y[:3]), "of 3 training inputs"),
        (lambda: training_series(two(), X.float(), Y, test=(X.float(), Y[:3])), "test targets have 3 entries"),
        (lambda: training_series(two(), X.float(), torch.full((12, 2), math.nan)), "targets holds 24 NaN"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()


def test_steps_are_spread_evenly_over_the_decades() -> None:
    steps = log_spaced_steps(10_000, 10)
    assert steps[:2] == [0, 1]
    assert steps[-1] == 10_000
    assert [sum(10**k <= s < 10 ** (k + 1) for s in steps) for k in (2, 3)] == [10, 10]
