"""Linear regression and held-out ridge between layers: published values, definitions, scikit-learn, directions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import linear_predictivity, linear_regression_r2
from geomfeat.geometry.similarity._linear_predictivity import PENALTIES, _ridge
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.reference import similarity as reference
from tests.shared_data import shared


def draw(n: int, d: int, *names: object) -> Tensor:
    return torch.randn(n, d, generator=stream(0, n, d, *names), dtype=torch.float64)


@pytest.mark.parametrize("pair", ["X-Y", "X-Z"])
def test_published_values_are_of_the_first_from_the_second(pair: str) -> None:
    data = np.load(shared("refs/kernels/similarity_inputs.npz"))
    expected = json.loads(shared("refs/kernels/similarity_expected.json").read_text())["other"][pair]
    a, b = (torch.from_numpy(data[name]) for name in pair.split("-"))
    assert linear_regression_r2(b, a) == pytest.approx(expected["LinearRegression"], rel=1e-9)


def test_regression_equals_least_squares() -> None:
    a, b = draw(20, 3, "a") + 2, draw(20, 5, "b")
    assert linear_regression_r2(a, b) == pytest.approx(reference.regression_r2(a.numpy(), b.numpy()), rel=1e-9)
    assert linear_regression_r2(b, a) != pytest.approx(linear_regression_r2(a, b), rel=1e-2)


def test_regression_on_noise_explains_d_of_n() -> None:
    # Population value 0; in-sample E = d / (n - 1), held out about 0 or below.
    values = [linear_regression_r2(draw(41, 10, "a", s), draw(41, 30, "b", s)) for s in range(40)]
    assert abs(np.mean(values) - 10 / 40) < 4 * np.std(values) / 40**0.5
    held_out = [linear_predictivity(draw(41, 10, "a", s), draw(41, 30, "b", s)).r2 for s in range(20)]
    assert -0.1 < np.mean(held_out) < 0.02


@pytest.mark.parametrize("shape", [(30, 4), (20, 50)])
def test_each_fold_is_scikit_learns_ridge(shape: tuple[int, int]) -> None:
    x, new = draw(*shape, "x"), draw(7, shape[1], "new")
    y = x[:, :3] + 0.5 * draw(shape[0], 3, "y")
    predicted, penalty = _ridge(x, y, new)
    unit = float(torch.linalg.svdvals(x - x.mean(0)).square().mean())
    peer = RidgeCV(alphas=[p * unit for p in PENALTIES]).fit(x.numpy(), y.numpy())
    assert peer.alpha_ == pytest.approx(penalty * unit)
    np.testing.assert_allclose(predicted, peer.predict(new.numpy()), rtol=1e-7, atol=1e-8)


def test_a_known_share_of_signal() -> None:
    # b = a W + noise with as much variance: half of it can be predicted.
    a = draw(2000, 3, "a")
    b = a @ torch.linalg.qr(draw(3, 3, "w")).Q + draw(2000, 3, "noise")
    found = linear_predictivity(a, b)
    assert found.r2 == pytest.approx(0.5, abs=0.04)
    assert len(found.by_fold) == len(found.penalties) == 5
    assert linear_predictivity(a, b, seed=1).r2 != found.r2
    # A subspace predicts nothing else; the whole predicts its part.
    assert linear_predictivity(a, a[:, :1]).r2 > 0.999 > 0.5 > linear_predictivity(a[:, :1], a).r2


def test_invariances() -> None:
    a, b = draw(30, 6, "a"), draw(30, 4, "b") + draw(30, 6, "a")[:, :4]
    value = linear_predictivity(a, b).r2
    q = torch.linalg.qr(draw(6, 6, "q")).Q
    assert linear_predictivity(7 * a @ q + 100, 0.1 * b - 3).r2 == pytest.approx(value, rel=1e-6)


def test_devices_agree(device: str) -> None:
    a, b = draw(30, 6, "a"), draw(30, 4, "b")
    assert linear_predictivity(a.to(device), b.to(device)).r2 == pytest.approx(linear_predictivity(a, b).r2, rel=1e-7)


@pytest.mark.parametrize(
    ("a", "b", "folds", "text"),
    [
        (draw(9, 2), draw(8, 2), 2, "a has 9 samples, b has 8"),
        (draw(9, 2), draw(9, 2), 5, "folds=5 of 9"),
        (draw(9, 2), draw(9, 2), 1, "folds=1"),
        (draw(9, 2), torch.ones(9, 2), 3, "coincide"),
    ],
)
def test_bad_input(a: Tensor, b: Tensor, folds: int, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        linear_predictivity(a, b, folds=folds)


def test_regression_on_more_features_than_samples_is_refused() -> None:
    with pytest.raises(BadInput, match="predicts everything"):
        linear_regression_r2(draw(8, 9), draw(8, 2))


@pytest.mark.parametrize("grouped", [False, True])
def test_copies_of_a_sample_are_held_out_together(grouped: bool) -> None:
    """Noise in many dimensions predicts nothing, and copies in another fold would give the answer away."""
    a, b = draw(60, 100, "a"), draw(60, 5, "b")
    twice = Representation(a.repeat(2, 1), groups=torch.arange(120) // 2 if grouped else None)
    assert linear_predictivity(twice, b.repeat(2, 1)).r2 < 0.1
    with pytest.raises(BadInput, match="folds=5 of 4 groups"):
        linear_predictivity(a[:4].repeat(5, 1), b[:4].repeat(5, 1))
