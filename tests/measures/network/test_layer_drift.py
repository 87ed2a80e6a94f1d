"""Own against inherited drift: the definition by hand, frozen and first layers, layers that cannot be called alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from geomfeat.measures.network.layer_drift import layer_drift
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from tests.measures.network.pairs import pair_of
from tests.reference import layer_drift as reference
from tests.reference.kernels import jackknife_by_loop
from tests.zoo import nudged, zoo

X = torch.randn(12, 6, generator=stream(0, "probes"), dtype=torch.float64)
PARTS = ("own", "inherited", "interaction", "total")


def chain() -> nn.Sequential:
    model = mlp(6, (8, 7), 3, activation="tanh", seed=0).double()
    return nn.Sequential(*model.children())


def test_equals_the_definition() -> None:
    model = chain()
    trained = nudged(model, 0.3)
    rows = layer_drift(pair_of(model, trained, X), batch_size=5)
    assert list(rows) == ["", "1", "3", "5"]
    with torch.no_grad():
        for name in ("1", "3", "5"):
            slow = reference.drift(model, trained, int(name), X)
            for part in PARTS:
                assert rows[name][part].value == pytest.approx(slow[part], rel=1e-9, abs=1e-15)
            own, inherited = slow["own"] ** 2, slow["inherited"] ** 2
            assert rows[name]["share_own"].value == pytest.approx(own / (own + inherited), rel=1e-9)
            loop = jackknife_by_loop(lambda keep, n=name: reference.drift(model, trained, int(n), X[keep])["own"], 12)
            assert rows[name]["own"].stderr == pytest.approx(loop, rel=1e-6)


def test_a_layer_left_alone_has_no_drift_of_its_own_and_the_first_inherits_none() -> None:
    model = chain()
    trained = nudged(model, 0.3)
    with torch.no_grad():
        for p, old in zip(trained[3].parameters(), model[3].parameters(), strict=True):
            p.copy_(old)
    rows = layer_drift(pair_of(model, trained, X))
    assert rows["3"]["own"].value == 0
    assert rows["3"]["interaction"].value == pytest.approx(0, abs=1e-12)
    assert rows["3"]["total"].value == rows["3"]["inherited"].value > 0.1
    assert rows["3"]["share_own"].value == 0
    assert rows["1"]["inherited"].value == 0
    assert rows["1"]["total"].value == rows["1"]["own"].value
    assert rows["1"]["share_own"].value == 1


def test_the_network_is_the_mean_over_layers() -> None:
    model = chain()
    rows = layer_drift(pair_of(model, nudged(model, 0.3), X))
    for part in (*PARTS, "share_own"):
        mean = sum(rows[name][part].value for name in ("1", "3", "5")) / 3
        assert rows[""][part].value == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("case", [c for c in zoo() if c.name != "branching"], ids=str)
def test_every_kind_of_layer_is_called_again(case) -> None:
    rows = layer_drift(pair_of(case.model, nudged(case.model, 0.2), case.inputs))
    assert all(row[part].ok for row in rows.values() for part in PARTS)
    first = next(name for name in rows if name)
    if case.name != "gru cell":  # it is given its own state, so a later call inherits
        assert rows[first]["inherited"].value == 0
    same = layer_drift(pair_of(case.model, copy.deepcopy(case.model), case.inputs))
    assert all(row[part].value == 0 for row in same.values() for part in PARTS)


def test_total_drift_is_the_movement_of_the_features() -> None:
    from geomfeat.measures.network.feature_movement import feature_movement

    for case in zoo():
        if case.layer in ("rnn[0]", "stem", "first"):
            pair = pair_of(case.model, nudged(case.model, 0.2), case.inputs, layers=(case.layer,))
            moved = feature_movement(pair)[case.layer]["relative"].value
            assert layer_drift(pair)[case.layer.split("[")[0]]["total"].value == pytest.approx(moved, rel=1e-5)


def test_attention_is_called_whole() -> None:
    case = next(c for c in zoo() if c.name == "transformer")
    rows = layer_drift(pair_of(case.model, nudged(case.model, 0.2), case.inputs))
    assert rows["encoder.layers.0.self_attn"]["own"].value > 0
    assert not any("out_proj" in name for name in rows)


class Counting(nn.Linear):
    """Returns something else on every call."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x) * self.calls


class Around(nn.Module):
    """Weights of its own around another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(6))
        self.inner = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.gain * x)


def test_layers_that_cannot_be_split_say_so() -> None:
    model = nn.Sequential(Around(), Counting(4, 5), nn.Linear(5, 2)).double()
    rows = layer_drift(pair_of(model, nudged(model, 0.2), X, layers=()))
    assert "calls other layers" in rows["0"]["own"].note
    assert rows["0.inner"]["own"].ok
    assert "a state, or is random" in rows["1"]["own"].note
    assert "2 layers left out" in rows[""]["own"].note


def test_a_call_without_an_axis_of_samples_is_reported() -> None:
    case = next(c for c in zoo() if c.name == "branching")
    rows = layer_drift(pair_of(case.model, nudged(case.model, 0.2), case.inputs, layers=()))
    assert "no axis of the 6 samples" in rows["up"]["own"].note
    assert not rows[""]["own"].ok


def test_layers_of_another_shape_are_reported() -> None:
    before, after = nn.Sequential(nn.Linear(6, 4)), nn.Sequential(nn.Linear(6, 3))
    assert not layer_drift.run(pair_of(before, after, X.float(), layers=()))["0"]["own"].ok
    assert not layer_drift.run(pair_of(nn.ReLU(), nn.ReLU(), X, layers=()))[""]["own"].ok
