"""What diagnostics are given: features and functions of both snapshots, computed once and only where needed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from geomfeat import snapshots as pair_module
from geomfeat.errors import LayerNotFound
from geomfeat.numerics import WORKING, stream, tolerance
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Representation, Snapshot
from tests.measures.network.pairs import pair_of
from tests.zoo import Case, nudged, zoo


def small() -> SnapshotPair:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2))
    x = torch.randn(6, 3, generator=stream(0, "pair tests"))
    return pair_of(model, nudged(model, 0.3), x, labels=torch.arange(6) % 2, layers=("0", "1"))


def test_features_are_those_of_each_snapshot() -> None:
    pair = small()
    for reps, snapshot in ((pair.before, pair.initial), (pair.after, pair.trained)):
        assert list(reps) == ["0", "1"]
        net = snapshot.model
        torch.testing.assert_close(reps["0"].x, net[0](pair.inputs).detach(), **tolerance(torch.float32))
        torch.testing.assert_close(reps["1"].x, net[0](pair.inputs).tanh().detach(), **tolerance(torch.float32))
        assert reps["1"].labels.tolist() == [0, 1, 0, 1, 0, 1]
        assert reps["1"].layer == "1"
    assert not torch.equal(pair.before["0"].x, pair.after["0"].x)


def test_functions_are_those_of_each_snapshot() -> None:
    pair = small()
    for f, snapshot in ((pair.f_initial, pair.initial), (pair.f_trained, pair.trained)):
        assert f.dtype == WORKING
        x = f.inputs(pair.inputs)
        expected = copy.deepcopy(snapshot.model).double().eval()(x).detach()
        torch.testing.assert_close(f(f.theta, x), expected, **tolerance())


def test_everything_is_computed_once_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    plain = pair_module.extract
    monkeypatch.setattr(pair_module, "extract", lambda model, *a, **k: (calls.append(model), plain(model, *a, **k))[1])
    pair = small()
    assert not calls
    assert pair.after is pair.after
    assert calls == [pair.trained.model]
    assert pair.before is pair.before
    assert calls == [pair.trained.model, pair.initial.model]
    assert pair.f_trained is pair.f_trained


def test_features_that_are_there_are_used() -> None:
    held = {"0": Representation(torch.ones(6, 4), layer="0")}
    pair = small()
    given = SnapshotPair(pair.initial, pair.trained, pair.inputs, layers=("0",), initial_reps=held, trained_reps=held)
    assert given.before is held
    assert given.after is held


def test_a_readout_reaches_the_functions() -> None:
    pair = small()
    read = SnapshotPair(pair.initial, pair.trained, pair.inputs, layers=("0",), readout=lambda out, _: out[:, :1])
    assert read.f_initial(read.f_initial.theta, read.f_initial.inputs(pair.inputs)).shape == (6, 1)


def test_an_unknown_layer_is_reported() -> None:
    pair = small()
    with pytest.raises(LayerNotFound, match="'7'"):
        _ = SnapshotPair(pair.initial, pair.trained, pair.inputs, layers=("7",)).before


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_every_kind_of_network_makes_a_pair(case: Case, device: str) -> None:
    pair = pair_of(case.model, nudged(case.model, 0.1), case.inputs, device=device, layers=(case.layer,))
    assert set(pair.before) == set(pair.after) == set(pair.layers)
    n = len(case.inputs[0] if isinstance(case.inputs, tuple) else case.inputs)
    assert all(rep.n == n for rep in [*pair.before.values(), *pair.after.values()])
    assert pair.f_initial.device.type == device
    assert pair.f_initial.theta.keys() == pair.f_trained.theta.keys()


def test_snapshots_say_when_they_were_taken() -> None:
    pair = small()
    assert (pair.initial.at, pair.trained.at, pair.seed, pair.labels is not None) == ("init", "trained", 0, True)
    assert isinstance(pair.initial, Snapshot)
