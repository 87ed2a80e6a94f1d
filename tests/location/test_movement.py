"""Movement M: features as the layers compute them, known movements, and refusals instead of silent numbers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from geomfeat.activations import hidden_weight_layers
from geomfeat.errors import BadInput, LayerNotFound
from geomfeat.location.movement import movement, outputs_and_features
from geomfeat.models.functional import functional, output_matrix
from geomfeat.numerics import WORKING, stream, tolerance
from tests.zoo import Case, zoo


def normal(*shape: int, name: str = "h") -> Tensor:
    return torch.randn(*shape, generator=stream(0, "movement tests", name), dtype=WORKING)


# features


def test_features_are_those_of_the_layers() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = normal(7, 3)
    outputs, features = outputs_and_features(functional(model), x, ["0", "1"], batch_size=3)
    double = copy.deepcopy(model).double()
    first = double[0](x).detach()
    torch.testing.assert_close(features["0"], first, **tolerance())  # as it was before the ReLU overwrote it
    torch.testing.assert_close(features["1"], first.relu(), **tolerance())
    torch.testing.assert_close(outputs, double(x).detach(), **tolerance())


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_features_do_not_depend_on_the_batch_size(case: Case) -> None:
    f = functional(case.model)
    # The branching network calls its layers on one row at a time: it has no features but its output.
    layers = hidden_weight_layers(case.model, case.inputs) if case.layer else [""]
    outputs, features = outputs_and_features(f, case.inputs, layers)
    n = len(outputs)
    assert set(layers) <= set(features)
    assert all(value.shape[0] == n and value.ndim == 2 for value in features.values())
    for size in (1, 2, 4):
        again, parts = outputs_and_features(f, case.inputs, layers, batch_size=size)
        torch.testing.assert_close(again, outputs, **tolerance())
        for name in layers:
            torch.testing.assert_close(parts[name], features[name], **tolerance())
    given = f.inputs(case.inputs)
    torch.testing.assert_close(outputs, output_matrix(f(f.theta, given)), **tolerance())


def test_states_that_happen_to_have_as_many_rows_as_a_batch_are_no_features() -> None:
    """The final states of a two-layer LSTM are (2, n, hidden), and the last batch may hold two samples."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(3, 4, num_layers=2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][:, -1]

    _, features = outputs_and_features(functional(Net()), normal(8, 5, 3), ["rnn"], batch_size=6)
    assert {name: tuple(value.shape) for name, value in features.items()} == {"rnn[0]": (8, 20)}


def test_layers_that_give_no_row_per_sample_are_refused() -> None:
    class Summing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(0, keepdim=True)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)
            self.total = Summing()

        def forward(self, x: Tensor) -> Tensor:
            h = self.fc(x)
            return h + self.total(h)

    f = functional(Net())
    with pytest.raises(BadInput, match="layer 'total' has no output with one row per sample: leave it out"):
        outputs_and_features(f, normal(5, 3), ["fc", "total"])
    with pytest.raises(LayerNotFound, match="fc9"):
        outputs_and_features(f, normal(5, 3), ["fc9"])


# movement


@settings(deadline=None, max_examples=40)
@given(st.floats(-8, 4), st.sampled_from([1e-100, 1.0, 1e100]))
def test_features_that_grow_by_a_known_share_moved_by_it(decades: float, size: float) -> None:
    h = size * normal(6, 4)
    direction = normal(6, 4, name="direction")
    step = 10**decades * float(h.norm()) * direction / direction.norm()
    precision = 1e-15 / 10**decades  # of the difference
    assert movement({"a": h}, {"a": h + step})["a"] == pytest.approx(decades, abs=1e-9 + precision)


def test_movement_is_reported_layer_by_layer() -> None:
    h = torch.ones(4, 3)
    found = movement({"a": h, "b": 2 * h}, {"b": 4 * h, "a": 1.1 * h, "c": h})
    assert list(found) == ["a", "b"]
    assert found["a"] == pytest.approx(-1, abs=1e-5)
    assert found["b"] == 0.0


def test_a_layer_that_did_not_move() -> None:
    h = normal(4, 3)
    assert movement({"a": h}, {"a": h.clone()}) == {"a": -math.inf}


def test_rotations_and_common_scales_do_not_matter() -> None:
    before, after = normal(6, 4), normal(6, 4, name="after")
    q = torch.linalg.qr(normal(4, 4, name="q"))[0]
    plain = movement({"a": before}, {"a": after})["a"]
    assert movement({"a": 3 * before @ q}, {"a": 3 * after @ q})["a"] == pytest.approx(plain, abs=1e-12)


def test_what_has_no_movement_is_refused() -> None:
    h = torch.ones(2, 2)
    with pytest.raises(BadInput, match="layer 'a' is zero on every probe"):
        movement({"a": 0 * h}, {"a": h})
    with pytest.raises(BadInput, match="layer 'a' has no features after training: it has b"):
        movement({"a": h}, {"b": h})
    for bad in (math.nan, math.inf):
        broken = h.clone()
        broken[0, 0] = bad
        with pytest.raises(BadInput, match="layer 'a' after training holds"):
            movement({"a": h}, {"a": broken})
        with pytest.raises(BadInput, match="layer 'a' holds"):
            movement({"a": broken}, {"a": h})
