"""Feature movement: scaled layers, the definition through plain hooks, dead layers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from geomfeat.measures.network.feature_movement import feature_movement
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.measures.network.pairs import pair_of
from tests.reference.kernels import jackknife_by_loop
from tests.zoo import nudged, zoo

X = torch.randn(12, 6, generator=stream(0, "probes"))


def test_equal_snapshots_did_not_move() -> None:
    model = mlp(6, (8, 8), 3)
    rows = feature_movement(pair_of(model, copy.deepcopy(model), X))
    assert set(rows) == {"", "fc1", "fc2"}
    assert all(row["relative"].value == 0 for row in rows.values())


def test_scaling_the_first_layer_moves_every_layer_of_a_homogeneous_network_alike() -> None:
    model = mlp(6, (8, 8), 3, bias=False)
    trained = copy.deepcopy(model)
    with torch.no_grad():
        trained.fc1.weight.mul_(4)
    for row in feature_movement(pair_of(model, trained, X)).values():
        assert row["relative"].value == pytest.approx(3, rel=1e-6)


def test_the_network_moves_by_the_geometric_mean_of_its_layers() -> None:
    model = mlp(6, (8, 8), 3, bias=False, activation="tanh")
    rows = feature_movement(pair_of(model, nudged(model, 0.2), X))
    product = rows["fc1"]["relative"].value * rows["fc2"]["relative"].value
    assert rows[""]["relative"].value == pytest.approx(math.sqrt(product), rel=1e-12)


@pytest.mark.parametrize("case", [c for c in zoo() if c.layer], ids=str)
def test_equals_the_definition(case) -> None:
    trained = nudged(case.model, 0.2)
    rows = feature_movement(pair_of(case.model, trained, case.inputs, layers=(case.layer,)))
    old, new = (_features(m, case) for m in (case.model, trained))

    def definition(samples: list[int]) -> float:
        return float((new[samples] - old[samples]).norm() / old[samples].norm())

    n = len(old)
    assert rows[case.layer]["relative"].value == pytest.approx(definition(list(range(n))), rel=1e-5)
    if n >= 6:
        assert rows[case.layer]["relative"].stderr == pytest.approx(jackknife_by_loop(definition, n), rel=1e-4)
        assert rows[""]["relative"].stderr == pytest.approx(rows[case.layer]["relative"].stderr, rel=1e-6)


def _features(model: nn.Module, case) -> torch.Tensor:
    seen = []
    root = copy.deepcopy(model).eval()
    module = root.get_submodule(case.layer.split("[")[0])
    module.register_forward_hook(lambda _m, _i, out: seen.append((out if torch.is_tensor(out) else out[0]).clone()))
    root(*(case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)))
    return seen[-1].detach().flatten(1).double()


def test_a_dead_layer_fails_alone_and_the_mean_says_so() -> None:
    model = mlp(6, (8, 8), 3)
    with torch.no_grad():
        model.fc1.weight.zero_()
        model.fc1.bias.zero_()
    rows = feature_movement(pair_of(model, nudged(model, 0.1), X))
    assert not rows["fc1"]["relative"].ok
    assert "dead layer" in rows["fc1"]["relative"].note
    assert rows[""]["relative"].value == pytest.approx(rows["fc2"]["relative"].value)
    assert "1 of 2 layers left out" in rows[""]["relative"].note


def test_a_network_without_hidden_layers_is_a_failed_row() -> None:
    model = nn.Linear(6, 2)
    rows = feature_movement(pair_of(model, nudged(model, 0.1), X))
    assert set(rows) == {""}
    assert not rows[""]["relative"].ok


def test_features_extracted_before_are_used() -> None:
    model = mlp(6, (8,), 3)
    old = {"fc1": Representation(X, layer="fc1")}
    new = {"fc1": Representation(1.5 * X, layer="fc1")}
    rows = feature_movement(pair_of(model, model, X, initial_reps=old, trained_reps=new))
    assert rows["fc1"]["relative"].value == pytest.approx(0.5, rel=1e-6)
