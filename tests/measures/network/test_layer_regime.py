"""Regimes of layers: the words, layers by construction, the fall back on weights, and the frame that joins R and M."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from geomfeat.location._locate import locate
from geomfeat.location.options import LocateOptions
from geomfeat.measures.network.layer_drift import layer_drift
from geomfeat.measures.network.layer_regime import (
    COLUMNS,
    LAZY_BELOW,
    RICH_FROM,
    layer_regime,
    layer_regime_of,
    layer_regimes,
)
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.types import Snapshot
from tests.measures.network.pairs import pair_of
from tests.measures.network.test_layer_drift import Around
from tests.zoo import nudged, zoo

X = torch.randn(12, 6, generator=stream(0, "probes"))


def scaled(factors: dict[str, float]) -> tuple[nn.Module, nn.Module]:
    """A network without biases, and one whose layers are multiplied: own drift is |factor - 1|."""
    model = mlp(6, (8, 8), 3, bias=False, seed=0)
    trained = copy.deepcopy(model)
    with torch.no_grad():
        for name, factor in factors.items():
            trained.get_parameter(f"{name}.weight").mul_(factor)
    return model, trained


def test_words() -> None:
    edge = [0.0, 1e-9, LAZY_BELOW, RICH_FROM]
    assert [layer_regime_of(v) for v in edge] == ["frozen", "lazy", "transition", "rich"]
    assert layer_regime_of(math.nan) == "undetermined"


def test_biases_that_learn_alone_make_a_layer_move() -> None:
    model = mlp(6, (8,), 3, seed=0)
    trained = copy.deepcopy(model)
    with torch.no_grad():
        trained.get_parameter("fc1.bias").add_(5.0)
    found = layer_regimes(pair_of(model, trained, X))
    assert found["spectral"].tolist() == [0.0, 0.0]
    assert found["regime"].tolist() == ["rich", "frozen"]
    assert found["own_movement"][0] == found["own"][0]


def test_own_movement_is_the_mean_of_drift_and_weights_with_half_the_error_of_the_drift() -> None:
    model = mlp(6, (8,), 3, seed=0)
    pair = pair_of(model, nudged(model, 0.2), X)
    row, found = layer_regime(pair)["fc1"]["own_movement"], layer_regimes(pair)
    drift = layer_drift(pair)["fc1"]["own"]
    assert row.value == pytest.approx(math.sqrt(found["own"][0] * found["spectral"][0]), rel=1e-12)
    assert row.stderr / row.value == pytest.approx(drift.stderr / drift.value / 2, rel=1e-12)


def test_one_network_holds_every_regime() -> None:
    rows = layer_regime(pair_of(*scaled({"fc1": 3.0, "head": 1.01}), X))
    assert {name: row["own_movement"].note for name, row in rows.items()} == {
        "": "mixed: 1 frozen, 1 lazy, 1 rich", "fc1": "rich", "fc2": "frozen", "head": "lazy",
    }  # fmt: skip
    assert rows[""]["own_movement"].value == pytest.approx((2 + 0 + 0.01) / 3, rel=1e-5)


def test_a_network_of_one_regime_is_called_by_it() -> None:
    rows = layer_regime(pair_of(*scaled({"fc1": 3.0, "fc2": 4.0, "head": 2.0}), X))
    assert rows[""]["own_movement"].note == "rich"


def test_the_frame_joins_demand_and_movement() -> None:
    model, trained = scaled({"fc1": 3.0, "head": 1.01})
    found = layer_regimes(pair_of(model, trained, X))
    assert tuple(found.columns) == COLUMNS
    assert found["regime"].tolist() == ["rich", "frozen", "lazy"]
    where = locate(trained, X, initial=model, progress=False, options=LocateOptions(n_bootstrap=2)).layers
    assert found["richness"][:2].tolist() == pytest.approx(where["richness"].tolist())
    assert found["movement"][:2].tolist() == pytest.approx(where["movement"].tolist())
    assert math.isnan(found["richness"][2])
    assert found["total"].tolist()[:2] == pytest.approx([10**m for m in where["movement"]], rel=1e-5)
    assert found["spectral"].tolist() == pytest.approx([2.0, 0.0, 0.01], rel=1e-4)


def test_the_frame_is_in_the_coordinates_of_the_snapshots_optimizer() -> None:
    model, trained = scaled({"fc1": 3.0, "fc2": 1.2, "head": 1.01})
    rates = {"*": 1.0, "head.*": 0.01}
    pair = replace(pair_of(model, trained, X), trained=Snapshot(trained, optimizer=rates))
    where = locate(
        trained, X, initial=model, optimizer=rates, progress=False, options=LocateOptions(n_bootstrap=2)
    ).layers  # fmt: skip
    assert layer_regimes(pair)["richness"][:2].tolist() == pytest.approx(where["richness"].tolist())
    plain = layer_regimes(pair_of(model, trained, X))["richness"][:2].tolist()
    assert plain != pytest.approx(where["richness"].tolist(), abs=0.01)


def test_nested_outputs_are_joined_by_their_module() -> None:
    case = next(c for c in zoo() if c.name == "lstm")
    found = layer_regimes(pair_of(case.model, nudged(case.model, 0.2), case.inputs))
    assert found["layer"].tolist() == ["rnn", "head"]
    assert math.isfinite(found["richness"][0])


def test_equal_networks_are_frozen_and_have_no_demand() -> None:
    model = mlp(6, (8,), 3, seed=0)
    found = layer_regimes(pair_of(model, copy.deepcopy(model), X))
    assert found["regime"].tolist() == ["frozen", "frozen"]
    assert found["richness"].isna().all()


def test_a_layer_that_cannot_be_called_alone_goes_by_its_weights() -> None:
    model = nn.Sequential(Around(), nn.Linear(4, 2))
    trained = copy.deepcopy(model)
    with torch.no_grad():
        trained[0].gain.mul_(2)
    row = layer_regime(pair_of(model, trained, X, layers=()))["0"]["own_movement"]
    assert row.value == pytest.approx(1.0)
    assert row.note.startswith("rich: by its weights")


def test_no_layer_is_a_failed_row() -> None:
    assert not layer_regime.run(pair_of(nn.ReLU(), nn.ReLU(), X, layers=()))[""]["own_movement"].ok
