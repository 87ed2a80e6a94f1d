"""Layers trained at rates of their own: what training by layer keeps, and which number tells the layers apart."""

from __future__ import annotations

import pytest
import torch

from geomfeat.lab._train_by_layer import LEFT, train_by_layer
from geomfeat.lab.mixed_by_layer import DATA, data_of
from geomfeat.models.mlp import mlp
from tests.lab.small_runs import small_run


def test_rates_are_those_of_the_layers_and_the_model_is_left_alone() -> None:
    x, y = (part.double() for part in data_of("mixture", 0))
    model = mlp(64, (64, 64), 4, seed=0).double()
    before = [p.clone() for p in model.parameters()]
    found = train_by_layer(model, x, y, {"fc1": 0.0, "fc2": 1.0, "head": 1e-4}, 0.01)
    assert found.loss < LEFT
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))

    def moved(name: str) -> float:
        a, b = (m.get_parameter(f"{name}.weight").detach() for m in (found.initial, found.trained))
        return float((b - a).norm() / a.norm())

    assert moved("fc1") == 0
    assert 0 < moved("head") < 1e-2 * moved("fc2")


def test_the_loss_reached_is_that_of_the_centred_scaled_network() -> None:
    x, y = data_of("mixture", 1)
    found = train_by_layer(mlp(64, (16,), 4, seed=0), x, y, {"fc1": 1.0, "head": 1.0}, 2.0, max_steps=20)
    with torch.no_grad():
        f = (found.trained(x) - found.initial(x)) / 2.0
    assert float((f - y).square().sum() / y.square().sum()) == pytest.approx(found.loss, rel=1e-5)


def test_data_have_unit_size_and_centred_targets() -> None:
    for kind in DATA:
        x, y = data_of(kind, 0)
        assert len(x) == len(y)
        assert float(y.sum(1).abs().max()) < 1e-5
        assert torch.equal(x, data_of(kind, 0)[0])


def test_own_movement_tells_layers_apart_where_total_drift_does_not() -> None:
    found = small_run("mixed-by-layer")
    assert found.failed == []
    frozen = found.table[found.table["truth"] == "frozen"]
    assert frozen["inherited"].max() > 1, "a frozen layer moved by its own size"
    accuracy = [curve.y[0] for curve in found.plots[2].curves if curve.kind == "scatter"]  # one mark for each reading
    assert accuracy[0] > 0.95 > 0.8 > accuracy[3]
