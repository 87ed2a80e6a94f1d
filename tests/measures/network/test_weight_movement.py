"""Weight movement: scaled, rank-one and convolutional updates against singular values."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from geomfeat.measures.network.weight_movement import own_weights, spectral_norm, weight_movement
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from tests.measures.network.pairs import pair_of
from tests.zoo import Shared, nudged, zoo

X = torch.randn(4, 6, generator=stream(0, "probes"))


def moved(initial: nn.Module, trained: nn.Module) -> dict:
    return weight_movement(pair_of(initial, trained, X, layers=()))


def test_equal_snapshots_did_not_move() -> None:
    for case in zoo():
        for row in moved(case.model, copy.deepcopy(case.model)).values():
            assert all(e.value == 0 for e in row.values() if e.ok)


def test_scaled_weights_moved_by_the_factor() -> None:
    model = mlp(6, (8, 8), 3)
    trained = copy.deepcopy(model)
    with torch.no_grad():
        for p in trained.parameters():
            p.mul_(1.5)
    rows = moved(model, trained)
    assert set(rows) == {"", "fc1", "fc2", "head"}
    for row in rows.values():
        assert row["spectral"].value == pytest.approx(0.5, rel=1e-6)
        assert row["frobenius"].value == pytest.approx(0.5, rel=1e-6)


def test_a_rank_one_step_on_an_orthogonal_layer() -> None:
    # |W0|_2 = 1, |W0|_F = sqrt 5; the step 2 u v' has both norms 2.
    layer = nn.Linear(5, 5, bias=False)
    trained = copy.deepcopy(layer)
    u, v = torch.eye(5)[0], torch.eye(5)[3]
    with torch.no_grad():
        layer.weight.copy_(torch.linalg.qr(torch.randn(5, 5, generator=stream(0, "q"))).Q)
        trained.weight.copy_(layer.weight + 2 * torch.outer(u, v))
    model, after = nn.Sequential(layer), nn.Sequential(trained)
    assert moved(model, after)["0"]["spectral"].value == pytest.approx(2, rel=1e-5)
    assert moved(model, after)["0"]["frobenius"].value == pytest.approx(2 / 5**0.5, rel=1e-5)


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_equals_the_definition(case) -> None:
    trained = nudged(case.model, 0.3)
    rows = moved(case.model, trained)
    old, new = ({k: p.detach() for k, p in m.named_parameters()} for m in (case.model, trained))
    for layer in set(rows) - {""}:
        own = [k for k in old if k.rpartition(".")[0] == layer]
        ratios, total = [], np.zeros(2)
        for key in own or [k for k in new if k.startswith(layer)]:
            w0 = old[key].detach().double().numpy()
            step = new[key].detach().double().numpy() - w0
            total += (step**2).sum(), (w0**2).sum()
            if w0.ndim >= 2:
                flat = [a.reshape(len(a), -1) for a in (step, w0)]
                ratios.append(np.linalg.svd(flat[0])[1][0] / np.linalg.svd(flat[1])[1][0])
        if own and total[1] > 0:
            assert rows[layer]["frobenius"].value == pytest.approx(np.sqrt(total[0] / total[1]), rel=1e-9)
        if ratios:
            assert rows[layer]["spectral"].value == pytest.approx(max(ratios), rel=1e-9)
    everything = [
        sum(float((new[k].double() - old[k].double()).square().sum()) for k in old),
        sum(float(old[k].double().square().sum()) for k in old),
    ]
    assert rows[""]["frobenius"].value == pytest.approx((everything[0] / everything[1]) ** 0.5, rel=1e-9)


def test_the_most_moved_of_several_matrices_is_named() -> None:
    case = next(c for c in zoo() if c.name == "lstm")
    trained = copy.deepcopy(case.model)
    with torch.no_grad():
        trained.rnn.weight_hh_l0.mul_(3)
    row = moved(case.model, trained)["rnn"]["spectral"]
    assert row.value == pytest.approx(2, rel=1e-6)
    assert row.note.startswith("weight_hh_l0, of 2")


def test_a_normalisation_layer_is_a_diagonal_matrix() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
    trained = copy.deepcopy(model)
    with torch.no_grad():
        trained[1].weight[2] += 0.7
    rows = moved(model, trained)
    assert rows["1"]["spectral"].value == pytest.approx(0.7, rel=1e-6)
    assert rows["1"]["frobenius"].value == pytest.approx(0.7 / 6**0.5, rel=1e-6)
    assert rows["0"]["spectral"].value == 0


def test_weights_that_start_at_zero_are_a_failed_row() -> None:
    model = mlp(6, (8,), 3)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    rows = moved(model, nudged(model, 0.1))
    assert not rows["head"]["spectral"].ok
    assert not rows["head"]["frobenius"].ok
    assert "start at zero" in rows["head"]["spectral"].note
    assert rows[""]["spectral"].value == pytest.approx(rows["fc1"]["spectral"].value)


def test_a_parametrised_weight_counts_as_what_it_results_in() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4)))
    trained = copy.deepcopy(model)
    with torch.no_grad():
        for p in trained[0].parametrizations.weight.parameters():
            p.mul_(2)  # gain and direction: the weight itself only doubles
    rows = moved(model, trained)
    assert set(rows) == {"", "0"}
    assert rows["0"]["spectral"].value == pytest.approx(1, rel=1e-5)


def test_a_shared_weight_is_counted_once_in_the_whole() -> None:
    model = Shared()
    trained = copy.deepcopy(model)
    with torch.no_grad():
        trained.first.weight.mul_(2)
    rows = moved(model, trained)
    assert rows["first"]["spectral"].value == rows["head"]["spectral"].value == pytest.approx(1)
    size = sum(float(p.detach().square().sum()) for p in model.parameters())
    expected = (float(model.first.weight.detach().square().sum()) / size) ** 0.5
    assert rows[""]["frobenius"].value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(3, 50), (50, 3), (4, 2, 3, 3), (7,)])
def test_spectral_norm_equals_the_largest_singular_value(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape, generator=stream(0, shape), dtype=torch.float64)
    matrix = torch.diag(w) if w.ndim == 1 else w.reshape(len(w), -1)
    assert spectral_norm(w) == pytest.approx(float(torch.linalg.svdvals(matrix)[0]), rel=1e-12)


def test_other_models_are_a_failed_row() -> None:
    row = moved(mlp(6, (8,), 3), mlp(6, (9,), 3))[""]["spectral"]
    assert not row.ok
    assert "fc1" in row.note
    assert list(own_weights(nn.ReLU())) == []
