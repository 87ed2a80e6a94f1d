"""Movement of the tangent kernel, by all three diagnostics: known answers, the definition, probes, projections."""

from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomfeat.measures.network.kernel_distance import kernel_distance
from geomfeat.measures.network.kernel_distance_centred import kernel_distance_centred
from geomfeat.measures.network.kernel_relative_change import kernel_relative_change
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.tangent import ntk
from tests.measures.network.pairs import pair_of
from tests.reference.kernels import cka_by_definition, ntk_by_loop
from tests.zoo import nudged, zoo

DIAGNOSTICS = [
    (kernel_relative_change, "relative_change"),
    (kernel_distance, "distance"),
    (kernel_distance_centred, "distance_centred"),
]
ntk_pair = importlib.import_module("geomfeat.measures.network._tangent_kernels")


def inputs(n: int, d: int = 6) -> Tensor:
    return torch.randn(n, d, generator=stream(0, "probes"))


def scaled(model: nn.Module, factor: float) -> nn.Module:
    out = copy.deepcopy(model)
    with torch.no_grad():
        for p in out.parameters():
            p.mul_(factor)
    return out


def by_definition(quantity: str, k: np.ndarray, k0: np.ndarray) -> float:
    if quantity == "relative_change":
        return float(np.linalg.norm(k - k0) / np.linalg.norm(k0))
    if quantity == "distance":
        return float(1 - (k * k0).sum() / np.linalg.norm(k) / np.linalg.norm(k0))
    return 1 - cka_by_definition(k, k0, "biased")


@pytest.mark.parametrize(("diagnostic", "quantity"), DIAGNOSTICS)
def test_equal_snapshots_did_not_move(diagnostic, quantity: str) -> None:
    model = mlp(6, (8, 8), 3)
    for row in diagnostic(pair_of(model, copy.deepcopy(model), inputs(10))).values():
        assert row[quantity].value == 0
        assert row[quantity].stderr == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(("diagnostic", "quantity"), DIAGNOSTICS)
def test_a_model_linear_in_its_parameters_has_a_constant_kernel(diagnostic, quantity: str) -> None:
    model = nn.Linear(6, 3)
    pair = pair_of(model, nudged(model, 1.0), inputs(10), layers=())
    assert diagnostic(pair)[""][quantity].value == pytest.approx(0, abs=1e-12)


def test_a_scaled_homogeneous_network_scales_its_kernel() -> None:
    # Three bias-free ReLU layers: every gradient is homogeneous of degree 2, the kernel of degree 4.
    model = mlp(6, (8, 8), 3, bias=False)
    pair = pair_of(model, scaled(model, 1.5), inputs(10))
    rows = kernel_relative_change(pair)
    assert set(rows) == {"", "fc1", "fc2", "head"}
    for row in rows.values():
        assert row["relative_change"].value == pytest.approx(1.5**4 - 1, rel=1e-6)
    for diagnostic, quantity in DIAGNOSTICS[1:]:
        assert all(row[quantity].value < 1e-12 for row in diagnostic(pair).values())


@pytest.mark.parametrize("case", zoo(), ids=str)
@pytest.mark.parametrize(("diagnostic", "quantity"), DIAGNOSTICS)
def test_equals_the_definition_for_every_kind_of_network(case, diagnostic, quantity: str) -> None:
    trained = nudged(case.model, 0.3)
    rows = diagnostic(pair_of(case.model, trained, case.inputs, layers=()))
    # Every parameter moved, so all of them count, whatever requires_grad says of one.
    models = [copy.deepcopy(m).requires_grad_(True) for m in (trained, case.model)]
    k, k0 = (ntk_by_loop(m, case.inputs).diagonal(dim1=2, dim2=3).sum(-1).numpy() for m in models)
    assert rows[""][quantity].value == pytest.approx(by_definition(quantity, k, k0), rel=1e-7, abs=1e-12)


def test_both_kernels_are_computed_once_for_all_three(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    compute = ntk_pair.ntk_by_parameter_group
    monkeypatch.setattr(ntk_pair, "ntk_by_parameter_group", lambda *a, **k: calls.append(1) or compute(*a, **k))
    model = mlp(6, (8,), 3)
    pair = pair_of(model, nudged(model, 0.1), inputs(10))
    for diagnostic, _ in DIAGNOSTICS:
        diagnostic(pair)
    assert len(calls) == 2


def test_many_probes_are_thinned_evenly_and_the_note_says_so() -> None:
    model = mlp(6, (8,), 3)
    trained = nudged(model, 0.1)
    x = inputs(100)
    thinned = kernel_distance(pair_of(model, trained, x), probes=20)[""]["distance"]
    chosen = kernel_distance(pair_of(model, trained, x[::5]))[""]["distance"]
    assert thinned.value == chosen.value
    assert "20 of 100 probes" in thinned.note
    assert chosen.note == ""


def test_many_outputs_are_projected_and_the_note_says_so() -> None:
    model = mlp(6, (40,), 60)
    trained = nudged(model, 0.2)
    x = inputs(12)
    projected = kernel_relative_change(pair_of(model, trained, x, seed=1))[""]["relative_change"]
    k, k0 = (ntk(m, x).gram.numpy() for m in (trained, model))
    assert "16 random projections of 60 outputs" in projected.note
    assert projected.value == pytest.approx(by_definition("relative_change", k, k0), rel=0.15)
    again = kernel_relative_change(pair_of(model, trained, x, seed=1))[""]["relative_change"]
    other = kernel_relative_change(pair_of(model, trained, x, seed=2))[""]["relative_change"]
    assert again == projected
    assert other.value != projected.value


@pytest.mark.parametrize(
    ("saved", "expected"), [(2**10, (64, 10)), (2**25, (64, 4)), (2**26, (32, 4)), (2**28, (16, 4)), (2**40, (16, 4))]
)
def test_heavy_networks_get_fewer_outputs_then_fewer_probes(saved: int, expected: tuple[int, int]) -> None:
    assert ntk_pair._sizes(64, 10, saved) == expected


def test_a_layer_that_acts_on_nothing_fails_alone() -> None:
    model = mlp(6, (8,), 3)
    with torch.no_grad():
        model.head.weight.zero_()
    rows = kernel_relative_change(pair_of(model, nudged(model, 0.1), inputs(10)))
    assert rows[""]["relative_change"].ok
    assert not rows["fc1"]["relative_change"].ok
    assert "no parameter acts" in rows["fc1"]["relative_change"].note


def test_flags_of_the_trained_copy_do_not_choose_the_parameters() -> None:
    model = mlp(6, (8,), 3)
    trained = nudged(model, 0.1)
    free = kernel_distance(pair_of(model, trained, inputs(10)))
    trained.requires_grad_(False)
    trained.head.requires_grad_(True)
    assert kernel_distance(pair_of(model, trained, inputs(10))) == free


def test_snapshots_of_other_models_are_a_failed_row() -> None:
    row = kernel_distance(pair_of(mlp(6, (8,), 3), mlp(6, (9,), 3), inputs(10)))[""]["distance"]
    assert not row.ok
    assert "one model" in row.note
