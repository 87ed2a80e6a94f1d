"""Movement of the tangent kernel, by all three diagnostics: known answers, the definition, probes, projections."""

from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomfeat.measures.network.kernel_change import (
    kernel_distance,
    kernel_distance_centred,
    kernel_relative_change,
)
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


class Product(nn.Module):
    """f(x) = a u.x with scalar a: K = (u.x)(u.x') + a^2 x.x'."""

    def __init__(self, a: float, u: list[float]) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[a]]))
        self.u = nn.Parameter(torch.tensor([u]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.u.T @ self.a


def test_a_kernel_that_turns_from_one_direction_to_the_other() -> None:
    x = torch.eye(2)
    # a = 0: K = u u' on the unit vectors. e1 -> e2: no overlap at all; e1 -> (e1 + e2)/sqrt 2: cosine 1/2.
    # a moves too, if by next to nothing, or it would be no part of the kernel.
    start = Product(1e-9, [1.0, 0.0])
    turned = {"far": [0.0, 1.0], "half": [0.5**0.5, 0.5**0.5], "longer": [3.0, 0.0]}
    values = {
        name: kernel_distance(pair_of(start, Product(0.0, u), x, layers=()))[""]["distance"].value
        for name, u in turned.items()
    }
    assert values["far"] == pytest.approx(1, abs=1e-7)
    assert values["half"] == pytest.approx(0.5, abs=1e-6)
    assert values["longer"] == pytest.approx(0, abs=1e-12)


def test_groups_are_the_parameters_of_the_model_itself() -> None:
    rows = kernel_distance(pair_of(Product(1.0, [1.0, 0.0]), Product(2.0, [1.0, 1.0]), torch.eye(2), layers=()))
    assert set(rows) == {"", "a", "u"}
    # The kernel of u is a^2 x.x': it only grows.
    assert rows["u"]["distance"].value == pytest.approx(0, abs=1e-12)


class WithOffset(torch.nn.Module):
    """f(x) = w.x + offset^2 / 2: the kernel is x.x' + offset^2, a constant on top of a fixed one."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.full((1, 3), offset))  # it acts on no kernel, but has to move to be in it
        self.offset = torch.nn.Parameter(torch.tensor([offset]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.w.T + self.offset.square() / 2


def test_a_constant_added_to_the_kernel_is_no_movement_when_centred() -> None:
    pair = pair_of(WithOffset(0.0), WithOffset(2.0), torch.eye(4, 3), layers=())
    assert kernel_distance_centred(pair)[""]["distance_centred"].value == pytest.approx(0, abs=1e-12)
    # K0 = diag(1, 1, 1, 0), K = K0 + 4: cosine (3 + 12) / (sqrt 3 sqrt(3 * 25 + 13 * 16)).
    assert kernel_distance(pair)[""]["distance"].value == pytest.approx(1 - 15 / (3 * 283) ** 0.5, rel=1e-9)


def test_a_layer_that_gives_every_sample_the_same_gradient_fails_alone() -> None:
    rows = kernel_distance_centred(pair_of(WithOffset(1.0), WithOffset(2.0), torch.eye(4, 3), layers=()))
    assert rows["w"]["distance_centred"].ok
    assert not rows["offset"]["distance_centred"].ok
    assert "constant" in rows["offset"]["distance_centred"].note
